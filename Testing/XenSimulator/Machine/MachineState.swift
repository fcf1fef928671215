import SystemPackage
import XenGrant

/// The whole state of a simulated machine, behind one lock.
struct MachineState: Sendable {
  /// Index n is the domain n.
  var domains: [DomainState] = []
  var processes: [Int: DomainID] = [:]
  var grantDevices: [HandleID: GrantDeviceState] = [:]
  var allocators: [HandleID: GrantAllocatorState] = [:]
  var eventDevices: [HandleID: EventDeviceState] = [:]
  /// Descriptors of processes. Other duplicates of a descriptor are not recorded here.
  var descriptors: [Int: DeviceDescriptor] = [:]
  var connections: [HandleID: StoreConnectionState] = [:]
  /// In the order in which they were made.
  var dmaBufs: [DmaBufState] = []
  var memoryFiles: [MemoryFileState] = []
  /// By address.
  var localMappings: [UInt: LocalMappingState] = [:]
  var fences: [FenceID: FenceState] = [:]
  var syncFiles: [SyncFileState] = []
  var store = StoreTree()
  var calls = CallCounts()
  /// The calls in their order, while they are being recorded.
  var journal: [JournalEntry]?
  var faults: [PlannedFault] = []
  private var lastID = 0

  /// A number that is unique on this machine.
  mutating func makeID() -> Int {
    lastID += 1
    return lastID
  }

  /// A domain that exists now.
  func livingIndex(_ domain: DomainID) -> Int? {
    let index = Int(domain.rawValue)
    guard index < domains.count, domains[index].isAlive else { return nil }
    return index
  }

  /// The number of the next domain.
  func newNumber() throws(Errno) -> DomainID {
    guard let number = UInt16(exactly: domains.count), let id = DomainID(rawValue: number) else {
      throw .noSpace
    }
    return id
  }

  /// Checks that a number is free again, and returns it.
  ///
  /// - Throws: EEXIST while the domain lives, or while any page of it is still mapped: Xen keeps
  ///   the number until then.
  func reuse(_ number: DomainID) throws(Errno) -> DomainID {
    let index = Int(number.rawValue)
    guard index < domains.count, !domains[index].isAlive, domains[index].grants.inUse == 0 else {
      throw .fileExists
    }
    return number
  }

  /// Counts a call, and returns the effect of the faults on it.
  ///
  /// - Throws: EBADF if its process has ended.
  mutating func begin(_ call: SimulatedCall, process: Int) throws(Errno) -> Verdict {
    guard let domain = processes[process] else { throw .badFileDescriptor }
    calls[call] += 1
    journal?.append(JournalEntry(call: call, domain: domain, process: process))
    var verdict = Verdict()
    for index in faults.indices
    where faults[index].concerns(call, process: process, of: domain) && faults[index].strikes() {
      switch faults[index].fault.effect {
      case .errno(let errno): verdict.failure = verdict.failure ?? errno
      case .status(let status, let piece): verdict.refusals[piece] = status
      case .delay(let duration): verdict.delay += duration
      case .early: verdict.isEarly = true
      }
    }
    faults.removeAll(where: \.isSpent)
    return verdict
  }

  /// Closes all that a process has open, in the order of Linux: memory first, then files.
  mutating func end(process: Int) {
    guard processes.removeValue(forKey: process) != nil else { return }
    forgetMemory(of: process)
    for descriptor in descriptors.filter({ $0.value.process == process }).keys {
      descriptors.removeValue(forKey: descriptor)?.number?.detach()
    }
    reapDevices()
    for handle in connections.filter({ $0.value.process == process }).keys.sorted() {
      closeConnection(handle)
    }
    localMappings = localMappings.filter { $0.value.process != process }
  }

  /// Ends a domain as Xen does: nothing in it runs any more, so it sends no notification.
  mutating func destroy(_ domain: DomainID) {
    guard let index = livingIndex(domain) else { return }
    for (handle, device) in grantDevices where device.domain == domain {
      for map in device.maps where map.isActive { release(map, by: domain) }
      grantDevices[handle] = nil
    }
    for dmaBuf in dmaBufs where dmaBuf.domain == domain {
      if case .grantDevice(_, _, let map) = dmaBuf.exporter { release(map, by: domain) }
    }
    dmaBufs.removeAll { $0.domain == domain }
    memoryFiles.removeAll { $0.domain == domain }
    syncFiles.removeAll { $0.domain == domain }
    localMappings = localMappings.filter { $0.value.domain != domain }
    allocators = allocators.filter { $0.value.domain != domain }
    for handle in eventDevices.filter({ $0.value.domain == domain }).keys {
      eventDevices[handle] = nil
    }
    for port in domains[index].ports.keys.sorted() { closePort(port, of: domain) }
    domains[index].allocatedPages = 0
    domains[index].isAlive = false
    descriptors = descriptors.filter { processes[$0.value.process] != domain }
    withdraw(domains[index].grants.references, of: domain)
    connections = connections.filter { $0.value.domain != domain }
    processes = processes.filter { $0.value != domain }
    removeHome(of: domain)
  }
}

/// A call that was made, and where.
struct JournalEntry: Sendable {
  let call: SimulatedCall
  let domain: DomainID
  let process: Int
}
