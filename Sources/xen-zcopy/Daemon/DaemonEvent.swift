import ZcopyBackend
import ZcopyWire
import libxenzcopy

/// An event of xen-zcopyd.
struct DaemonEvent {
  let kind: EventKind
  let domain: UInt32
  /// The buffer; nil if the event concerns a domain.
  let id: BufferID?
  let frame: FrameNumber
  let page: UInt32
  /// For a release: whether it is unknown if the buffer is still held.
  let isUncertain: Bool

  init(_ event: xenzcopy_event) {
    kind = EventKind(rawValue: event.event)
    domain = event.domain
    id = kind == .domainGone ? nil : BufferID(event.id)
    frame = FrameNumber(rawValue: event.frame)
    page = event.page
    isUncertain = kind == .released && event.code != 0
  }

  /// Writes the event as a line, or as a JSON object.
  func report(to output: Output) {
    let name = kind.name
    let hasFrame = !kind.isDisjoint(with: [.frame, .used])
    var fields: [String: JSONValue] = [
      "domain": .number(Int(domain)), "id": id.map { .string($0.description) } ?? .null,
    ]
    if hasFrame {
      fields["frame"] = .number(Int(frame.rawValue))
      fields["page"] = .number(Int(page))
    }
    if isUncertain { fields["uncertain"] = .bool(true) }
    output.report(
      name,
      "\(name) domain \(domain)" + (id.map { " buffer \($0)" } ?? "")
        + (hasFrame ? " frame \(frame)" : "")
        + (isUncertain ? ": it is unknown whether it is still held" : ""), fields)
  }
}
