import DmaBuf
public import XenGrant

/// The pages of a mapped buffer as the processor sees them. They stay mapped as long as this object
/// exists.
public protocol BufferContents: AnyObject {
  /// Whether the pages may be written.
  var isWritable: Bool { get }

  /// Lends the pages from the buffer's first byte on, offset included; throws what `body` throws.
  func withMemory<Result, Failure: Error>(
    _ body: (borrowing SharedMemory) throws(Failure) -> Result
  ) throws(Failure) -> Result
}

/// Another domain's pages, mapped here.
final class GrantedContents: BufferContents {
  let isWritable: Bool
  private let mapping: GrantMapping

  init(_ mapping: consuming GrantMapping, isWritable: Bool) {
    self.mapping = consume mapping
    self.isWritable = isWritable
  }

  func withMemory<Result, Failure: Error>(
    _ body: (borrowing SharedMemory) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try Self.lend(mapping, body)
  }

  private static func lend<Result, Failure: Error>(
    _ mapping: borrowing GrantMapping, _ body: (borrowing SharedMemory) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(mapping.memory)
  }
}

/// This domain's pages, which hold a copy.
final class CopiedContents: BufferContents {
  let isWritable = true
  private let mapping: LocalMapping

  init(_ mapping: consuming LocalMapping) { self.mapping = consume mapping }

  func withMemory<Result, Failure: Error>(
    _ body: (borrowing SharedMemory) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try Self.lend(mapping, body)
  }

  private static func lend<Result, Failure: Error>(
    _ mapping: borrowing LocalMapping, _ body: (borrowing SharedMemory) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(mapping.memory)
  }
}

/// Mappings of a buffer's pages that were given to callers, and may outlive the buffer.
final class HandedOutContents {
  private struct Entry {
    weak var contents: (any BufferContents)?
  }

  private var entries: [Entry] = []

  func add(_ contents: any BufferContents) {
    entries.removeAll { $0.contents == nil }
    entries.append(Entry(contents: contents))
  }

  /// Whether all of them have been released.
  var isEmpty: Bool { entries.allSatisfy { $0.contents == nil } }
}
