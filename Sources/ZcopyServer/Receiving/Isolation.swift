#if canImport(Glibc)
  import Glibc
#endif

/// Where descriptors that clients send are received and closed.
///
/// `close` of a FUSE file waits for its server. If the server hangs, nothing interrupts the wait.
/// `close` of a TCP socket may linger. A client could use either to block all other clients, and to
/// keep this process from exiting.
public struct Isolation: Sendable {
  /// The program to start for it; nil for none.
  let program: String?
  /// Whether memory files are taken for dma-bufs, as on a simulated machine.
  var takesMemoryFiles = false
  /// The time limit for a process to become ready, and then for each task.
  var mostOfStart = Duration.seconds(10)
  var most = Duration.seconds(1)
  /// How long an idle process is kept.
  var idle = Duration.seconds(10)

  /// The signal that ends a process that takes longer. With a signal that it survives, tests
  /// simulate a process that cannot be killed.
  var killing = SIGKILL

  /// In this process: safe only if all clients are trusted.
  public static let none = Isolation(program: nil)

  /// In a process for each user that sends descriptors. No other user waits for it.
  ///
  /// - Parameter program: a program into which CReceiver is linked; `/proc/self/exe` in one.
  public static func processes(of program: String) -> Isolation { Isolation(program: program) }
}
