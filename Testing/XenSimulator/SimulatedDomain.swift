public import DmaBuf
public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A running domain of a ``SimulatedMachine``.
public struct SimulatedDomain: Sendable {
  /// Its number.
  public let id: DomainID
  /// Whether its memory is translated.
  public let kind: DomainKind
  let machine: SimulatedMachine
  let process: SimulatedProcess

  /// Xen as the domain's first process sees it.
  public var xen: Xen { process.xen }

  /// Linux's memory for devices as the domain's first process sees it.
  public var dmaBufs: DmaBufSystem { process.dmaBufs }

  /// The platform of `Xen` and `Linux` in the domain's first process.
  public var platform: any XenPlatform & DmaBufPlatform { process }

  /// Starts another process, which can be killed separately.
  public func openProcess() -> SimulatedProcess {
    let domain = id
    let number = machine.change { state in
      let number = state.makeID()
      // A process of an ended domain cannot open anything.
      if state.livingIndex(domain) != nil { state.processes[number] = domain }
      return number
    }
    return SimulatedProcess(machine: machine, domain: domain, id: number)
  }

  /// Injects a fault into calls that are made in this domain.
  ///
  /// - Parameters:
  ///   - fault: the fault, and the calls that it strikes.
  ///   - call: the call; nil for any.
  public func inject(_ fault: Fault, into call: SimulatedCall? = nil) {
    let target = PlannedFault.Target.domain(id)
    machine.change { $0.faults.append(PlannedFault(fault, call, target)) }
  }

  /// The calls that are made in this domain while the closure runs, in their order.
  public func calls<Failure: Error>(
    during body: () throws(Failure) -> Void
  ) throws(Failure) -> [SimulatedCall] {
    try machine.journal(during: body).filter { $0.domain == id }.map(\.call)
  }

  /// Ends the domain at once, as `xl destroy` does.
  ///
  /// Its mappings end without their notifications, its pages stay mapped in other domains,
  /// its event channels close, its home is removed from XenStore, and `@releaseDomain` fires.
  public func destroy() {
    let domain = id
    machine.change { $0.destroy(domain) }
  }

  /// The resources that the domain holds now.
  public var census: DomainCensus {
    let domain = id
    return machine.change { state in
      state.reapFiles()
      return DomainCensus(domain, state)
    }
  }

  /// The resources that the domain holds once they are as expected, or after ten seconds.
  ///
  /// A program that another test is starting has a copy of every descriptor until it runs. Until
  /// then it holds the resources of these descriptors.
  public func census(expecting expected: DomainCensus) -> DomainCensus {
    for _ in 0..<10_000 {
      let census = census
      guard census != expected else { return census }
      usleep(1000)
    }
    return census
  }
}

/// The resources of a simulated domain, which tests compare before and after.
public struct DomainCensus: Equatable, Sendable {
  /// Entries of its grant table that grant a page, deferred ones included.
  public let grantsInUse: Int
  /// Granted pages that it has withdrawn and that another domain still maps.
  public let deferredPages: Int
  /// Foreign pages that it has mapped, for processes and for dma-bufs.
  public let activeMaps: Int
  /// Pages that count against gntalloc's limit.
  public let allocatedPages: Int
  /// Open grant devices, grant allocators, event channel devices and XenStore connections.
  public let openHandles: Int
  /// Open event channel ports.
  public let ports: Int
  /// Dma-bufs that its gntdev made and that are still open.
  public let dmaBufs: Int
  /// Dma-bufs whose pages its gntdev has granted.
  public let importedDmaBufs: Int
  /// Dma-bufs of its own memory that are still open, mapped or granted: of udmabuf, of heaps, of
  /// devices.
  public let localDmaBufs: Int
  /// Memory files that are still open or mapped.
  public let memoryFiles: Int
  /// Mappings of memory files and dma-bufs in its processes.
  public let localMappings: Int
  /// Sync files that are still open.
  public let syncFiles: Int
  /// XenStore nodes that it owns.
  public let storeNodes: Int
  /// XenStore watches that its connections have set.
  public let watches: Int
  /// XenStore transactions under way.
  public let transactions: Int

  init(_ domain: DomainID, _ state: MachineState) {
    let own = state.domains[Int(domain.rawValue)]
    let devices = state.grantDevices.values.filter { $0.domain == domain }
    let connections = state.connections.values.filter { $0.domain == domain }
    grantsInUse = own.grants.inUse
    deferredPages = own.grants.deferred
    activeMaps = own.activeMaps
    allocatedPages = own.allocatedPages
    openHandles =
      devices.count + connections.count
      + state.allocators.values.count { $0.domain == domain }
      + state.eventDevices.values.count { $0.domain == domain }
    ports = own.ports.count
    let buffers = state.dmaBufs.filter { $0.domain == domain }
    dmaBufs = buffers.count { $0.exporter.isGrantDevice }
    localDmaBufs = buffers.count - dmaBufs
    memoryFiles = state.memoryFiles.count { $0.domain == domain }
    localMappings = state.localMappings.values.count { $0.domain == domain }
    syncFiles = state.syncFiles.count { $0.domain == domain }
    importedDmaBufs = devices.reduce(0) { $0 + $1.imports.count }
    storeNodes = state.store.count(ownedBy: domain)
    watches = connections.reduce(0) { $0 + $1.watches.count }
    transactions = connections.reduce(0) { $0 + $1.transactions.count }
  }
}
