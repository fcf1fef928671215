import ArgumentParser
import XenGrant

extension ParsableCommand {
  /// Runs a command's work with a connection to xen-zcopyd.
  ///
  /// - Parameters:
  ///   - what: the operation that needs the daemon, for instance "list buffers".
  ///   - body: the work; an error that it throws becomes one line on standard error and an exit
  ///     code.
  func withDaemon(_ what: String, _ body: (DaemonConnection) throws -> Void) throws {
    try withFailures {
      let daemon: DaemonConnection
      do throws(DaemonError) {
        daemon = try DaemonConnection()
      } catch {
        throw DaemonError(
          code: error.code, errno: error.errno,
          description: "cannot \(what): \(error.description)")
      }
      try body(daemon)
    }
  }
}

extension CommonOptions {
  /// The domains' names, if this user may read XenStore.
  var domainNames: DomainNames { DomainNames(Xen(SystemPlatform(logger: logger))) }
}
