public import EventLoop
public import Logging
import XenGrant
public import XenSimulator
public import ZcopyBackend
public import ZcopyEngine

/// A simulated machine with domain 0, which is the backend, and a guest.
open class Stage {
  /// The machine.
  public let machine: SimulatedMachine
  /// Domain 0.
  public let backend: SimulatedDomain
  /// The other domain.
  public let guest: SimulatedDomain

  /// The arguments are domain 0's, except for the guest's kind and its number of pages.
  ///
  /// - Throws: `Errno` if there can be no more descriptors.
  public init(
    kind: DomainKind = .pvh, gntallocLimit: Int = 1024, gntdevLimit: Int = 65536,
    maptrack: Int = 262_144, hasDmaBuf: Bool = true, hasUdmabuf: Bool = true,
    udmabufLimit: Int = 64 << 20, heaps: [String] = ["system"], guest guestKind: DomainKind = .pvh,
    guestPages: Int = 1 << 20
  ) throws {
    machine = SimulatedMachine()
    backend = try machine.addDomain(
      kind: kind, gntallocLimit: gntallocLimit, gntdevLimit: gntdevLimit, maptrack: maptrack,
      hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf, udmabufLimit: udmabufLimit, heaps: heaps)
    guest = try machine.addDomain(kind: guestKind, gntallocLimit: guestPages)
  }

  /// The same machine and domains.
  public init(on stage: Stage) {
    (machine, backend, guest) = (stage.machine, stage.backend, stage.guest)
  }

  /// A buffer of whole pages that the guest shares with domain 0.
  ///
  /// - Throws: `ShareError` if the guest's memory or grants do not suffice.
  public func share(
    pages: Int, from memory: MemorySource = .gntalloc
  ) throws(ShareError) -> SharedBuffer {
    try SharedBuffer(
      ShareParameters(
        peer: backend.id, byteCount: pages * GrantReference.pageSize, memory: memory),
      xen: guest.xen, dmaBufs: guest.dmaBufs)
  }
}

/// An engine in domain 0 of a simulated machine, without a server.
public final class EngineStage: Stage {
  /// The engine's loop.
  public let loop: EventLoop
  /// The engine.
  public let engine: Engine

  /// An engine without buffers.
  ///
  /// - Throws: `Errno` if there can be no more descriptors.
  public init() throws {
    let stage = try Stage()
    loop = try EventLoop()
    engine = Engine(
      xen: stage.backend.xen, dmaBufs: stage.backend.dmaBufs, loop: loop, logger: .silent,
      root: "/nonexistent")
    super.init(on: stage)
  }

  /// Runs everything that is due now.
  ///
  /// - Throws: `Errno` if the loop fails.
  public func settle() throws { for _ in 0..<30 { try loop.turn(waiting: 1) } }
}

extension Logger {
  /// A logger that writes nothing.
  public static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}
