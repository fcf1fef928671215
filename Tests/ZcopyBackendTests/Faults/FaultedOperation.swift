import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

/// Something that the product does, from beginning to end, in one process whose calls are made to fail.
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
  /// What XenStore nodes stay behind where one of these calls fails; whoever publishes there next replaces them.
  var leavesNodes: Set<SimulatedCall> = []
  /// What the witness notes where one of these calls fails and the operation continues without it.
  var continues: [SimulatedCall: String] = [:]
  /// What an error may say in place of the call.
  var otherWords: String?
  /// Where it is done.
  var makePair: @Sendable () throws -> Pair
  /// What other processes do here does not fail.
  let run: @Sendable (Pair, SimulatedProcess, Witness) throws -> Void

  var testDescription: String { name }

  init(
    _ name: String, in role: Role, leavesNodes: Set<SimulatedCall> = [],
    continues: [SimulatedCall: String] = [:], orSays otherWords: String? = nil,
    with makePair: @escaping @Sendable () throws -> Pair = { try Pair() },
    _ run: @escaping @Sendable (Pair, SimulatedProcess, Witness) throws -> Void
  ) {
    self.name = name
    self.role = role
    self.leavesNodes = leavesNodes
    self.continues = continues
    self.otherWords = otherWords
    self.makePair = makePair
    self.run = run
  }

  /// What the product has said of a run that ended well.
  final class Witness {
    private(set) var words: [String] = []

    func note(_ words: String) { self.words.append(words) }

    /// Notes how a buffer came here, and what was passed over.
    func note(_ buffer: borrowing MappedBuffer) {
      note(buffer.mechanism.rawValue)
      for passed in buffer.passedOver { note("\(passed.mechanism) passed over: \(passed.reason)") }
    }
  }
}

/// What may go wrong with a call.
struct FittingFault: Sendable {
  let fault: Fault
  /// What it is called.
  let name: String
  /// What an error that tells of it has in it.
  let words: [String]
  /// Whether nothing need be said of it: memory is taken away all the same, and nobody is left to be told, or a transaction
  /// that collided is tried again.
  var isSilent = false

  /// What may go wrong with such a call in the kernel or in XenStore.
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
