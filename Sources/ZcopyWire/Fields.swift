package import CZcopy
import Pixels
import Support
import XenGrant
package import ZcopyBackend

extension BufferID {
  /// The identifier in a message.
  package init(_ id: xen_zcopyd_id) {
    // SAFETY: both are 16 bytes of any value.
    let words = unsafe unsafeBitCast(id, to: (UInt64, UInt64).self)
    self.init(high: words.0.bigEndian, low: words.1.bigEndian)
  }

  /// The identifier in messages: the bytes in the order in which ``description`` writes them.
  package var wire: xen_zcopyd_id {
    // SAFETY: both are 16 bytes of any value.
    unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: xen_zcopyd_id.self)
  }
}

extension DomainID {
  /// The domain with the number that a client supplied.
  init(named number: UInt32) throws(RequestError) {
    guard let number = UInt16(exactly: number), let domain = DomainID(rawValue: number) else {
      throw .invalid("there is no domain \(number): the numbers of domains end at 32751")
    }
    self = domain
  }
}

/// Reserved fields must be 0.
func expectZero(_ fields: UInt32...) throws(RequestError) {
  guard fields.allSatisfy({ $0 == 0 }) else {
    throw .invalid("a reserved field of the message is not 0")
  }
}

/// The domain with the number that a client supplied, or nil for all domains.
func filter(_ number: UInt32) throws(RequestError) -> DomainID? {
  number == XEN_ZCOPYD_ANY_DOMAIN ? nil : try DomainID(named: number)
}

/// The number of a domain, or the one that stands for all domains.
func number(of domain: DomainID?) -> UInt32 {
  domain.map { UInt32($0.rawValue) } ?? XEN_ZCOPYD_ANY_DOMAIN
}

extension Int {
  /// A size in bytes that a client supplied.
  init(size: UInt64) throws(RequestError) {
    // Far above any buffer size, and small enough that sums of several do not overflow.
    guard size <= 1 << 40 else { throw .invalid("no buffer has \(size) bytes") }
    self = Int(size)
  }
}

extension Range<Int> {
  /// The range in messages.
  package var wire: xen_zcopyd_range {
    xen_zcopyd_range(offset: UInt64(clamping: lowerBound), length: UInt64(clamping: count))
  }

  init(_ range: xen_zcopyd_range) throws(RequestError) {
    let start = try Int(size: range.offset)
    self = start..<(start + (try Int(size: range.length)))
  }
}

/// A buffer's name. It is written to terminals, the journal and the kernel, whose files use one
/// line for it.
func buffersName<Field: BitwiseCopyable>(_ field: Field) throws(RequestError) -> String {
  let name = try text(field, "name")
  guard name.isEmpty || printable(name, limit: .max) == name else {
    throw .invalid("a buffer's name has characters that cannot be shown")
  }
  return name
}

/// The name under which a buffer is published; nil if it is empty.
func publicationName<Field: BitwiseCopyable>(
  _ field: Field
) throws(RequestError) -> String? {
  let name = try text(field, "publish")
  guard name.isEmpty || Publication.path(for: name) != nil else {
    throw .invalid("a published name has 1 to 31 letters, digits, - and _")
  }
  return name.isEmpty ? nil : name
}

/// The picture that a client describes; nil if it describes none.
func picture(_ picture: xen_zcopyd_picture) throws(RequestError) -> PictureGeometry? {
  guard picture.width != 0 || picture.height != 0 || picture.stride != 0 || picture.format != 0
  else { return nil }
  guard let format = PixelFormat(code: picture.format) else {
    throw .invalid(
      "a picture's format is one of \(PixelFormat.all.map(\.name).joined(separator: ", ")); leave the picture out for others"
    )
  }
  do throws(GeometryError) {
    return try PictureGeometry(
      width: Int(picture.width), height: Int(picture.height), format: format,
      stride: picture.stride == 0 ? nil : Int(picture.stride))
  } catch {
    throw .invalid("\(error)")
  }
}

extension xen_zcopyd_picture {
  /// The picture's message, all 0 for none.
  init(_ geometry: PictureGeometry?) {
    self.init()
    guard let geometry else { return }
    width = UInt32(clamping: geometry.width)
    height = UInt32(clamping: geometry.height)
    stride = UInt32(clamping: geometry.stride)
    format = geometry.format.code
  }
}
