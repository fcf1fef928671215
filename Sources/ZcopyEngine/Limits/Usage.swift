/// What buffers use of the limited resources.
public struct Usage: Equatable, Sendable {
  /// Bytes of buffers.
  public internal(set) var bytes: UInt64
  /// Buffers.
  public internal(set) var buffers: UInt32
  /// Pages of grant directories.
  public internal(set) var directoryPages: UInt32

  /// Nothing.
  public static let none = Usage(bytes: 0, buffers: 0, directoryPages: 0)

  /// What one buffer uses.
  ///
  /// - Parameters:
  ///   - bytes: its size; less than 0 counts as 0.
  ///   - directoryPages: the pages of the directory that lists its references, 0 without one, and those
  ///     of gntalloc if it is such memory.
  public static func buffer(bytes: Int, directoryPages: Int) -> Usage {
    Usage(
      bytes: UInt64(clamping: bytes), buffers: 1, directoryPages: UInt32(clamping: directoryPages))
  }

  func of(_ resource: LimitedResource) -> UInt64 {
    switch resource {
    case .bytes: bytes
    case .buffers: UInt64(buffers)
    case .directoryPages: UInt64(directoryPages)
    case .requests: 0
    }
  }

  // The sum saturates at the largest number: no limit is so high.
  static func + (left: Usage, right: Usage) -> Usage {
    Usage(
      bytes: left.bytes.addingWithin(right.bytes),
      buffers: left.buffers.addingWithin(right.buffers),
      directoryPages: left.directoryPages.addingWithin(right.directoryPages))
  }

  static func - (left: Usage, right: Usage) -> Usage {
    Usage(
      bytes: left.bytes - min(left.bytes, right.bytes),
      buffers: left.buffers - min(left.buffers, right.buffers),
      directoryPages: left.directoryPages - min(left.directoryPages, right.directoryPages))
  }
}

extension FixedWidthInteger {
  /// The sum, or the largest number there is.
  package func addingWithin(_ other: Self) -> Self {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

extension ResourceLimits {
  func of(_ resource: LimitedResource) -> UInt64 {
    switch resource {
    case .bytes: bytes
    case .buffers: UInt64(buffers)
    case .directoryPages: UInt64(directoryPages)
    case .requests: UInt64(requestsPerSecond)
    }
  }
}
