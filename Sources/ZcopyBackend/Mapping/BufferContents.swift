import DmaBuf
public import XenGrant

/// The pages of a mapped buffer as the processor sees them. They stay mapped as long as anybody has this object.
public class BufferContents {
  /// Whether the pages may be written.
  public let isWritable: Bool

  fileprivate init(isWritable: Bool) { self.isWritable = isWritable }

  /// Lends the pages from the buffer's first byte on, offset included.
  public func withMemory<Result>(
    _ body: (borrowing SharedMemory) throws -> Result
  ) rethrows -> Result {
    preconditionFailure("there are contents of two kinds, and both lend their pages")
  }
}

/// Another domain's pages, mapped here.
final class GrantedContents: BufferContents {
  private let mapping: GrantMapping

  init(_ mapping: consuming GrantMapping, isWritable: Bool) {
    self.mapping = consume mapping
    super.init(isWritable: isWritable)
  }

  override func withMemory<Result>(
    _ body: (borrowing SharedMemory) throws -> Result
  ) rethrows -> Result {
    try Self.lend(mapping, body)
  }

  private static func lend<Result>(
    _ mapping: borrowing GrantMapping, _ body: (borrowing SharedMemory) throws -> Result
  ) rethrows -> Result {
    try body(mapping.memory)
  }
}

/// This domain's pages, which hold a copy.
final class CopiedContents: BufferContents {
  private let mapping: LocalMapping

  init(_ mapping: consuming LocalMapping) {
    self.mapping = consume mapping
    super.init(isWritable: true)
  }

  override func withMemory<Result>(
    _ body: (borrowing SharedMemory) throws -> Result
  ) rethrows -> Result {
    try Self.lend(mapping, body)
  }

  private static func lend<Result>(
    _ mapping: borrowing LocalMapping, _ body: (borrowing SharedMemory) throws -> Result
  ) rethrows -> Result {
    try body(mapping.memory)
  }
}
