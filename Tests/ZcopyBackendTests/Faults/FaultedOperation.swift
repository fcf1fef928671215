import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

/// An operation of the product from start to end, in one process whose calls are made to fail.
struct FaultedOperation: Sendable, CustomTestStringConvertible {
  /// In which domain that process is.
  enum Role: Sendable {
    /// Domain 0, which maps.
    case backend
    /// The domain whose memory it is.
    case guest
  }

  let name: String
  let role: Role
  /// XenStore nodes that stay if one of these calls fails; the next publication there replaces
  /// them.
  var leavesNodes: Set<SimulatedCall> = []
  /// Notes of the witness if one of these calls fails and the operation continues without it.
  var continues: [SimulatedCall: String] = [:]
  /// Words that an error may have in place of the call's.
  var otherWords: String?
  /// Makes the machine on which the operation runs.
  var makeStage: @Sendable () throws -> Stage
  /// Other processes here do not fail.
  let run: @Sendable (Stage, SimulatedProcess, Witness) throws -> Void

  var testDescription: String { name }

  init(
    _ name: String, in role: Role, leavesNodes: Set<SimulatedCall> = [],
    continues: [SimulatedCall: String] = [:], orSays otherWords: String? = nil,
    with makeStage: @escaping @Sendable () throws -> Stage = { try Stage() },
    _ run: @escaping @Sendable (Stage, SimulatedProcess, Witness) throws -> Void
  ) {
    self.name = name
    self.role = role
    self.leavesNodes = leavesNodes
    self.continues = continues
    self.otherWords = otherWords
    self.makeStage = makeStage
    self.run = run
  }

  /// The notes of a run that ended successfully.
  final class Witness {
    private(set) var words: [String] = []

    func note(_ words: String) { self.words.append(words) }

    /// Notes the mechanism of a buffer, and the mechanisms that were skipped.
    func note(_ buffer: borrowing MappedBuffer) {
      note(buffer.mechanism.rawValue)
      for passed in buffer.passedOver { note("\(passed.mechanism) passed over: \(passed.reason)") }
    }
  }
}

/// A fault that fits a call.
struct FittingFault: Sendable {
  let fault: Fault
  /// The name of the fault.
  let name: String
  /// Words that an error caused by the fault contains.
  let words: [String]
  /// Whether the fault needs no report: the memory is taken back anyway and no process is left to
  /// get a report, or a transaction that collided is tried again.
  var isSilent = false

  /// The faults that may occur in such a call, in the kernel or in XenStore.
  static func all(of call: SimulatedCall) -> [FittingFault] {
    let errnos =
      switch call {
      case .xen(let call): errnos(of: call)
      case .dmaBufs(let call): errnos(of: call)
      }
    let faults = errnos.map {
      FittingFault(
        fault: .errno($0), name: $0.symbol, words: ["(\($0.symbol) from \(call.description))"],
        isSilent: [.xen(.unmap), .xen(.unshare)].contains(call)
          || $0 == .resourceTemporarilyUnavailable)
    }
    guard call == .xen(.copy) || call == .xen(.copyTo) else { return faults }
    let (name, copy) = ("GNTST_bad_page", call == .xen(.copy) ? "copy from" : "copy to")
    return faults + [
      FittingFault(
        fault: .status(.badPage), name: name, words: ["\(copy) grant reference", "(\(name))"])
    ]
  }

  private static func errnos(of call: XenError.Call) -> [Errno] {
    switch call {
    case .openGrantDevice, .openGrantAllocator, .openEventChannels:
      [.noSuchFileOrDirectory, .tooManyOpenFiles]
    case .map, .mapNotify: [.invalidArgument, .noMemory]
    case .copy, .copyTo: [.badAddress]
    case .exportDmaBuf: [.invalidArgument, .noMemory, .inappropriateIOCTLForDevice]
    case .waitReleased: [.inappropriateIOCTLForDevice]
    case .importDmaBuf: [.ioError, .noSpace]
    case .releaseImport: [.noSuchFileOrDirectory]
    case .adoptGrantDevice, .adoptGrantAllocator, .adoptEventChannels: [.invalidArgument]
    case .silence: [.noSuchFileOrDirectory]
    case .mapShared: [.noMemory]
    case .share, .shareNotify: [.noSpace, .noMemory]
    case .unmap, .unshare: [.invalidArgument]
    case .bindUnbound: [.noSpace]
    case .bindInterdomain: [.invalidArgument, .noSuchProcess]
    case .notify, .unmask, .unbind: [.socketNotConnected]
    case .pending: [.ioError]
    case .openStore: [.connectionRefused]
    case .write, .makeDirectory, .startTransaction: [.noSpace]
    case .endTransaction: [.noSpace, .resourceTemporarilyUnavailable]
    case .watch: [.argListTooLong]
    case .permissions, .setPermissions, .remove, .isIntroduced: [.permissionDenied]
    case .read, .list, .unwatch, .readWatch: [.ioError]
    }
  }

  private static func errnos(of call: DmaBufError.Call) -> [Errno] {
    switch call {
    case .makeMemoryFile, .exportFences, .mergeFences: [.tooManyOpenFiles]
    case .makeDmaBuf: [.invalidArgument, .noMemory]
    case .allocate, .map, .poll, .importFence: [.noMemory]
    case .identify: [.badFileDescriptor]
    case .setName, .fenceInformation: [.inappropriateIOCTLForDevice]
    case .synchronize: [.ioError]
    }
  }
}
