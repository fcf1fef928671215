import DmaBuf
import Support
import ZcopyBackend
import ZcopyWire

extension BufferNumbers {
  /// Whether a buffer is mapped or shared.
  var kind: String { isMapped ? "mapped" : "shared" }

  /// A buffer's state.
  var stateName: String {
    switch state {
    case .live: "live"
    case .releasing: "releasing"
    case .late: "late"
    case .released: "released"
    case nil: "state \(stateNumber)"
    }
  }

  /// How a buffer was mapped, or where its memory comes from.
  var mechanism: String {
    switch memory {
    case .mapped(let mechanism): mechanism.rawValue
    case .shared(from: .udmabuf): "udmabuf"
    case .shared(from: .heap): "heap"
    case .shared(from: .descriptor): "fd"
    case .shared(from: .gntalloc): "gntalloc"
    case nil: "mechanism \(mechanismNumber)"
    }
  }

  var isPersistent: Bool { flags.contains(.persistent) }

  /// The holder that keeps the buffer alive, in words.
  var holder: String {
    guard process != 0 else { return isPersistent ? "persistent" : "none" }
    let pid = "\(process)"
    return ProcessName.of(process).map { "\($0) (\(pid))" } ?? pid
  }

  /// The buffer in JSON.
  func fields(_ names: DomainNames) -> [String: JSONValue] {
    [
      "id": .string(id.description), "kind": .string(kind), "state": .string(stateName),
      "domain": .number(Int(domain)),
      "domain_name": names.name(of: domain).map { .string($0) } ?? .null,
      "pages": .number(Int(pages)), "size": .number(Int(clamping: byteCount)),
      "age_ms": .number(Int(clamping: ageMilliseconds)), "mechanism": .string(mechanism),
      "persistent": .bool(isPersistent), "user": .number(Int(user)),
      "process": process == 0 ? .null : .number(Int(process)),
      "frame": .number(Int(frame)), "name": .string(name.printed),
    ]
  }
}

extension EventKind {
  /// A kind of event.
  var name: String {
    switch self {
    case .frame: "frame"
    case .used: "frame-used"
    case .released: "released"
    case .late: "late"
    case .peerMapped: "peer-mapped"
    case .peerGone: "peer-gone"
    case .peerReleased: "peer-released"
    case .closing: "owner-closing"
    case .domainGone: "domain-gone"
    default: "event \(rawValue)"
    }
  }
}

/// The names of processes, as /proc reports them.
enum ProcessName {
  /// The name of a process; nil if there is no process with that id.
  static func of(_ process: UInt32) -> String? {
    Files.trimmedText(of: "/proc/\(process)/comm").map { printable($0) }
  }
}
