import CZcopy
public import SystemPackage

/// An open dma-buf: memory that devices and programs share by file descriptor.
///
/// The descriptor closes with the value. The memory lives on as long as any copy of the descriptor, any mapping and any
/// device that imported it.
public struct DmaBuf: ~Copyable {
  /// The descriptor, owned by this value: to pass on, to poll, not to close.
  public let fileDescriptor: FileDescriptor
  /// Whom the kernel means: unique among the dma-bufs that exist, and never 0. Shown in `/proc/*/fdinfo` as `ino`.
  public let identity: UInt64
  /// The size in bytes.
  public let byteCount: Int

  /// Takes over a descriptor.
  ///
  /// - Parameter fileDescriptor: the dma-buf; closed if this throws.
  /// - Throws: `DmaBufError.inspect` with EBADF if it is not open.
  public init(adopting fileDescriptor: FileDescriptor) throws(DmaBufError) {
    var identity: UInt64 = 0
    var size: UInt64 = 0
    // SAFETY: the shim writes two numbers and keeps no pointer.
    let result = unsafe czcopy_file_identity(fileDescriptor.rawValue, &identity, &size)
    guard result >= 0, let byteCount = Int(exactly: size) else {
      try? fileDescriptor.close()
      throw .inspect(fileDescriptor.rawValue, result < 0 ? Errno(rawValue: -result) : .fileTooLarge)
    }
    self.fileDescriptor = fileDescriptor
    self.identity = identity
    self.byteCount = byteCount
  }

  deinit {
    // close reports nothing that could still be mended: the descriptor is gone in any case.
    try? fileDescriptor.close()
  }

  /// Gives the dma-buf a name for `/proc/*/fdinfo` and debugfs.
  ///
  /// - Parameter name: up to ``longestName`` bytes of UTF-8; what is longer is cut at a character.
  /// - Throws: `DmaBufError.setName` with ENOTTY for a file that is no dma-buf.
  ///
  /// The ioctl is `DMA_BUF_SET_NAME`.
  public borrowing func setName(_ name: String) throws(DmaBufError) {
    // SAFETY: the shim reads a NUL-terminated string and keeps none.
    let result = unsafe czcopy_dmabuf_set_name(fileDescriptor.rawValue, Self.shortened(name))
    guard result >= 0 else {
      throw .setName(fileDescriptor.rawValue, Errno(rawValue: -result))
    }
  }

  /// As much of a name as the kernel keeps, cut at a character.
  static func shortened(_ name: String) -> String {
    var short = name.prefix(longestName)
    while short.utf8.count > longestName { short.removeLast() }
    return String(short)
  }

  /// Bytes of a name that the kernel keeps. The C constant is `DMA_BUF_NAME_LEN`, less the NUL.
  public static let longestName = 31

  /// The descriptor, which the caller closes from now on.
  public consuming func relinquish() -> FileDescriptor {
    let fileDescriptor = fileDescriptor
    discard self
    return fileDescriptor
  }
}

/// Why a dma-buf cannot be used.
public enum DmaBufError: Error, Equatable, Sendable {
  /// A descriptor is not open.
  case inspect(Int32, Errno)
  /// A descriptor cannot be given a name.
  case setName(Int32, Errno)
}

extension DmaBufError: CustomStringConvertible {
  /// One line: what failed, and why.
  public var description: String {
    switch self {
    case .inspect(let number, let errno):
      "cannot inspect the dma-buf behind file descriptor \(number): \(errno)"
    case .setName(let number, let errno):
      "cannot name the dma-buf behind file descriptor \(number): \(errno)"
    }
  }
}
