import CZcopy
import libxenzcopy

/// The identifier of a buffer of xen-zcopyd.
struct BufferIdentifier: Hashable, CustomStringConvertible {
  /// 32 hexadecimal digits.
  let description: String

  /// The identifier in a message.
  init(_ wire: xen_zcopyd_id) {
    var wire = wire
    var text = [CChar](repeating: 0, count: 33)
    // SAFETY: the library writes 32 digits and a zero.
    unsafe xenzcopy_id_text(&wire, &text)
    description = String(decoding: text.prefix(32).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Parses an identifier; nil for any text but 32 hexadecimal digits in lower case.
  init?(_ text: String) {
    var wire = xen_zcopyd_id()
    // SAFETY: the text lives for the call.
    guard unsafe xenzcopy_id_parse(text, &wire) == 0 else { return nil }
    description = text
  }

  /// The identifier in messages.
  var wire: xen_zcopyd_id {
    var wire = xen_zcopyd_id()
    // SAFETY: the text lives for the call, and is one that the library wrote.
    unsafe _ = xenzcopy_id_parse(description, &wire)
    return wire
  }
}
