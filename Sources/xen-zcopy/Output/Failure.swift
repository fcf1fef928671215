import ArgumentParser
import DmaBuf
import Glibc
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

/// An error that ends the command: one line for the user, and an exit code.
struct Failure: Error, CustomStringConvertible {
  let description: String
  let code: ExitCode

  init(_ description: String, _ code: ExitCode = .failure) {
    self.description = description
    self.code = code
  }

  /// Any error that reaches the command.
  init(_ error: any Error) {
    switch error {
    case let failure as Failure: self = failure
    case let error as XenError: self.init(error)
    case let error as DmaBufError, MapError.memory(let error), ShareError.memory(let error):
      self.init(error)
    case MapError.xen(let error), MapError.refused(let error, .usable), ChannelError.xen(let error),
      PublicationError.unreadable(let error), ShareError.xen(let error):
      self.init(error)
    case MapError.noMechanism(_, let attempts):
      // Unavailable only if every mechanism lacks a device or support; otherwise the failure has
      // another cause.
      let isMissing = attempts.allSatisfy { Failure($0.reason).code == .unavailable }
      self.init("\(error)", isMissing ? .unavailable : .failure)
    case MapError.refused, ShareError.noDmaBufs: self.init("\(error)", .unavailable)
    case let error as DaemonError: self.init(error)
    case let error as EngineError: self.init(error)
    case let errno as Errno: self.init("the system refused: \(errno) (\(errno.symbol))")
    default: self.init("\(error)")
    }
  }

  private init(_ error: XenError) {
    let code: ExitCode =
      switch (error.call, error.errno) {
      case (.openGrantDevice, _), (.openGrantAllocator, _), (.openEventChannels, _),
        (.openStore, _):
        .unavailable
      case (_, .resourceTemporarilyUnavailable): .tryAgain
      default: .failure
      }
    self.init("\(error)", code)
  }

  private init(_ error: DaemonError) {
    let code: ExitCode =
      switch (error.code, error.errno) {
      case (.resources, _), (.busy, _), (.timeout, _), (.stopping, _), (nil, .connectionAbort):
        .tryAgain
      case (.unavailable, _), (nil, .noSuchFileOrDirectory), (nil, .connectionRefused),
        (nil, .connectionReset), (nil, .socketNotConnected):
        .unavailable
      default: .failure
      }
    self.init(error.description, code)
  }

  private init(_ error: EngineError) {
    let code: ExitCode =
      switch error.kind {
      case .resources, .busy, .timeout, .stopping: .tryAgain
      case .unavailable, .unsupported: .unavailable
      default: .failure
      }
    self.init(error.text, code)
  }

  private init(_ error: DmaBufError) {
    let isDevice = error.call == .makeDmaBuf || error.call == .allocate
    let code: ExitCode =
      switch error.errno {
      case .noSuchFileOrDirectory, .permissionDenied, .notPermitted,
        .operationNotSupportedByDevice, .noSuchAddressOrDevice:
        isDevice ? .unavailable : .failure
      default: .failure
      }
    self.init("\(error)", code)
  }
}

extension ExitCode {
  /// No Xen, no daemon, or a device is missing. `EX_UNAVAILABLE`.
  static let unavailable = ExitCode(69)
  /// A later attempt may succeed. `EX_TEMPFAIL`.
  static let tryAgain = ExitCode(75)
}

extension ParsableCommand {
  /// Runs a command's work; an error that it throws becomes one line on standard error and an exit
  /// code.
  func withFailures(_ body: () throws -> Void) throws {
    // The reader of the output may exit; buffers must be released all the same.
    signal(SIGPIPE, SIG_IGN)
    do {
      try body()
    } catch let code as ExitCode {
      throw code
    } catch {
      let failure = Failure(error)
      Output.error("xen-zcopy: \(failure)")
      throw failure.code
    }
  }
}
