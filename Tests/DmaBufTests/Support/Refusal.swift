import DmaBuf
import SystemPackage
import ZcopyTestKit

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

extension Pipe {
  /// A copy of the read end, which stands for a sync file.
  func fence() throws -> OwnedDescriptor { try OwnedDescriptor(duplicating: readEnd) }
}

/// A descriptor that is not open in any process.
let notOpen = FileDescriptor(rawValue: .max)
