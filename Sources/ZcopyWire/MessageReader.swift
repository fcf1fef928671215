import CZcopy

#if !_endian(little)
  #error("The protocol is little-endian, and its structures are read as they lie in memory.")
#endif

/// Reads structures and texts from one message, with bounds checks.
package struct MessageReader: ~Escapable {
  let header: xen_zcopyd_header
  private let bytes: RawSpan

  /// Reads a message's header.
  ///
  /// - Throws: `.message` without a complete header, or if the length differs from the header's.
  @_lifetime(copy bytes)
  package init(_ bytes: RawSpan) throws(RequestError) {
    guard let header = bytes.load(xen_zcopyd_header.self) else {
      throw .message("it has \(bytes.byteCount) bytes, and a header has 16")
    }
    guard Int(header.length) == bytes.byteCount else {
      throw .message("it has \(bytes.byteCount) bytes, and says that it has \(header.length)")
    }
    self.header = header
    self.bytes = bytes
  }

  /// Reads a message that consists of exactly one structure.
  ///
  /// - Throws: `.message` if it has another length.
  func whole<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    try beginning(type, followedBy: 0)
  }

  /// The first structure of the message.
  ///
  /// - Parameter rest: the bytes that come after it.
  /// - Throws: `.message` if it has another length.
  func beginning<Structure: BitwiseCopyable>(
    _ type: Structure.Type, followedBy rest: Int
  ) throws(RequestError) -> Structure {
    let size = MemoryLayout<Structure>.size + rest
    guard bytes.byteCount == size, let structure = bytes.load(type) else {
      throw .message(
        "a message of type \(header.type) has \(size) bytes, and this one has \(bytes.byteCount)")
    }
    return structure
  }

  /// The first structure of the message, whatever the message's length.
  func peek<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    guard let structure = bytes.load(type) else {
      throw .message(
        "a message of type \(header.type) has at least \(MemoryLayout<Structure>.size) bytes, and this one has "
          + "\(bytes.byteCount)")
    }
    return structure
  }

  /// The client's number of the request.
  package var request: RequestNumber { RequestNumber(rawValue: header.request) }

  /// The bytes that a WRITE has after its structure.
  package var written: RawSpan {
    @_lifetime(copy self) get {
      bytes.extracting(min(MemoryLayout<xen_zcopyd_write>.size, bytes.byteCount)...)
    }
  }

  /// Elements that follow a structure. The caller has checked the message's length.
  func elements<Element: BitwiseCopyable>(
    _ type: Element.Type, count: Int, after start: Int
  ) -> [Element] {
    let size = MemoryLayout<Element>.stride
    return (0..<count).compactMap { bytes.load(type, at: start + $0 * size) }
  }
}

extension RawSpan {
  /// A structure of integers; nil if the message is too short.
  func load<Structure: BitwiseCopyable>(
    _ type: Structure.Type, at offset: Int = 0
  ) -> Structure? {
    guard offset >= 0, byteCount - offset >= MemoryLayout<Structure>.size else { return nil }
    // SAFETY: in range, and the protocol's structures are integers and bytes, which are valid for
    // any bits.
    return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
  }
}
