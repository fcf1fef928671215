import ArgumentParser
import EventLoop
import Logging
import XenGrant

/// Whether the daemon or this process holds a buffer.
struct RouteOptions: ParsableArguments {
  @Flag(help: "Work without xen-zcopyd, also where it runs.")
  var direct = false

  @Flag(
    help: ArgumentHelp(
      "Have xen-zcopyd keep the buffer until `unmap` or `unshare`: print its identifier and exit."))
  var persistent = false

  /// Rejects contradictory options.
  ///
  /// - Parameter canExit: whether no option keeps the command running.
  func validate(holding canExit: Bool) throws {
    guard persistent else { return }
    guard !direct else {
      throw ValidationError("--persistent needs xen-zcopyd, and --direct works without")
    }
    guard canExit else {
      throw ValidationError(
        "--persistent exits at once: leave out the options that keep it running")
    }
  }

  /// The daemon, or nil if the command works without it.
  ///
  /// - Parameter what: the operation that needs the daemon if the buffer is to be persistent.
  /// - Throws: `DaemonError` if the daemon rejects this user, or is required and does not run.
  func daemon(for what: String) throws(DaemonError) -> DaemonConnection? {
    guard !direct else { return nil }
    do throws(DaemonError) {
      return try DaemonConnection()
    } catch {
      guard error.isAbsence, !persistent else {
        throw DaemonError(
          code: error.code, errno: error.errno, description: "cannot \(what): \(error.description)")
      }
      return nil
    }
  }

  /// The daemon as a session's host, or without one the engine in this process.
  func host(
    _ daemon: DaemonConnection?, xen: Xen, loop: EventLoop, logger: Logger
  ) throws -> any BufferHost {
    if let daemon { return try DaemonHost(daemon, isPersistent: persistent, xen: xen, loop: loop) }
    return EngineHost(xen: xen, loop: loop, logger: logger)
  }
}
