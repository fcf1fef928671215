#if canImport(Glibc)
  import Glibc
#endif

/// Where descriptors that clients send along are received and closed.
///
/// `close` waits for the server of a file of FUSE, where nothing ends the wait if that does not answer, and for a TCP socket that
/// lingers: a client could hold up all others by that, and keep this process from ending.
public struct Isolation: Sendable {
  /// What is started for it; nil for none.
  let program: String?
  /// Whether memory files are taken for dma-bufs, as on a simulated machine.
  var takesMemoryFiles = false
  /// How long a process may take until it is ready, and then for each thing that it is to do.
  var mostOfStart = Duration.seconds(10)
  var most = Duration.seconds(1)
  /// How long one stays that has nothing to do.
  var idle = Duration.seconds(10)

  /// What ends one that takes longer. Another, which it survives, makes it one that nothing ends.
  var killing = SIGKILL

  /// In this process: only where all clients are trusted.
  public static let none = Isolation(program: nil)

  /// In a process for each user that sends some, for which nobody else waits.
  ///
  /// - Parameter program: a program into which CReceiver is linked; `/proc/self/exe` in one.
  public static func processes(of program: String) -> Isolation { Isolation(program: program) }
}
