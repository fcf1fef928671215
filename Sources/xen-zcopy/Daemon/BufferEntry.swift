import CZcopy
import DmaBuf
import Support

/// One buffer as lists show it.
struct BufferEntry {
  let id: BufferIdentifier
  let wire: xen_zcopyd_list_entry

  init(_ wire: xen_zcopyd_list_entry) {
    id = BufferIdentifier(wire.id)
    self.wire = wire
  }

  /// The entry of a description.
  init(_ description: xen_zcopyd_description) {
    var entry = xen_zcopyd_list_entry()
    entry.id = description.id
    entry.kind = description.kind
    entry.state = description.state
    entry.domain = description.domain
    entry.pages = description.pages
    entry.size = description.size
    entry.age_ms = description.age_ms
    entry.mechanism = description.mechanism
    entry.flags = description.flags
    entry.user = description.user
    entry.process = description.process
    entry.frame = description.frame
    entry.name = description.name
    self.init(entry)
  }

  var kind: String { BufferFormatter.kind(wire.kind) }
  var state: String { BufferFormatter.state(wire.state) }
  var mechanism: String { BufferFormatter.mechanism(wire.mechanism, kind: wire.kind) }
  var isPersistent: Bool { wire.flags & XEN_ZCOPYD_PERSISTENT != 0 }
  var name: String { fixedText(wire.name) }

  /// The holder that keeps the buffer alive, in words.
  var holder: String {
    guard wire.process != 0 else { return isPersistent ? "persistent" : "none" }
    let pid = "\(wire.process)"
    return ProcessName.of(wire.process).map { "\($0) (\(pid))" } ?? pid
  }

  /// The entry in JSON.
  func fields(_ names: DomainNames) -> [String: JSONValue] {
    [
      "id": .string(id.description), "kind": .string(kind), "state": .string(state),
      "domain": .number(Int(wire.domain)),
      "domain_name": names.name(of: wire.domain).map { .string($0) } ?? .null,
      "pages": .number(Int(wire.pages)), "size": .number(Int(clamping: wire.size)),
      "age_ms": .number(Int(clamping: wire.age_ms)), "mechanism": .string(mechanism),
      "persistent": .bool(isPersistent), "user": .number(Int(wire.user)),
      "process": wire.process == 0 ? .null : .number(Int(wire.process)),
      "frame": .number(Int(wire.frame)), "name": .string(name),
    ]
  }
}

/// The names of processes, as /proc reports them.
enum ProcessName {
  /// The name of a process; nil if there is no process with that id.
  static func of(_ process: UInt32) -> String? {
    Files.trimmedText(of: "/proc/\(process)/comm").map { printable($0) }
  }
}
