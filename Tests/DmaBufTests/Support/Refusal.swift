import DmaBuf
import SystemPackage

/// The error that something fails with, or nil if it does not.
func refusal<Result: ~Copyable>(
  _ body: () throws(DmaBufError) -> Result
) -> DmaBufError? {
  do {
    _ = try body()
    return nil
  } catch {
    return error
  }
}

/// The two ends of a pipe, which close with the value.
///
/// The one to read from stands for a sync file: it is readable from the first ``signal()``.
struct Pipe: ~Copyable {
  let readEnd: FileDescriptor
  let writeEnd: FileDescriptor

  init() throws { (readEnd, writeEnd) = try FileDescriptor.pipe() }

  deinit {
    try? readEnd.close()
    try? writeEnd.close()
  }

  func signal() throws { try writeEnd.writeAll([1]) }

  /// A copy of the read end, which its receiver owns.
  func fence() throws -> FileDescriptor { try readEnd.duplicate() }
}

/// Whether no process has the other end of a pipe open.
func isAtEnd(_ descriptor: FileDescriptor) throws -> Bool {
  try SystemDmaBufs().poll(descriptor.rawValue, events: 0, milliseconds: 0) != 0
}

/// A descriptor that is not open in any process.
let notOpen = FileDescriptor(rawValue: .max)
