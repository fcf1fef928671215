#if canImport(Glibc)
  import Glibc
#endif

/// The process and the user for which a buffer was made, for lists and the journal. The engine
/// grants no rights by it.
public struct BufferMaker: Equatable, Sendable {
  /// The process id.
  public var process: Int32
  /// The effective user id.
  public var user: UInt32

  /// The maker with these ids.
  public init(process: Int32, user: UInt32) {
    self.process = process
    self.user = user
  }
}

extension BufferMaker: CustomStringConvertible {
  /// For the journal.
  public var description: String { "process \(process) of user \(user)" }
}

extension BufferMaker {
  /// This process.
  public static var own: BufferMaker { BufferMaker(process: getpid(), user: geteuid()) }
}
