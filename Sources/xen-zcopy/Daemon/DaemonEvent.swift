import CZcopy
import libxenzcopy

/// An event of xen-zcopyd.
struct DaemonEvent {
  /// `XEN_ZCOPYD_EVENT_*`.
  let kind: UInt32
  let domain: UInt32
  /// The buffer; nil if the event concerns a domain.
  let id: BufferIdentifier?
  let frame: UInt32
  let page: UInt32
  /// For a release: whether it is unknown if the buffer is still held.
  let isUncertain: Bool

  init(_ event: xenzcopy_event) {
    kind = event.event
    domain = event.domain
    id = kind == XEN_ZCOPYD_EVENT_DOMAIN_GONE ? nil : BufferIdentifier(event.id)
    frame = event.frame
    page = event.page
    isUncertain = kind == XEN_ZCOPYD_EVENT_RELEASED && event.code != 0
  }

  /// Writes the event as a line, or as a JSON object.
  func report(to output: Output) {
    let name = BufferFormatter.event(kind)
    let hasFrame = kind & (XEN_ZCOPYD_EVENT_FRAME | XEN_ZCOPYD_EVENT_USED) != 0
    var fields: [String: JSONValue] = [
      "domain": .number(Int(domain)), "id": id.map { .string($0.description) } ?? .null,
    ]
    if hasFrame {
      fields["frame"] = .number(Int(frame))
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
