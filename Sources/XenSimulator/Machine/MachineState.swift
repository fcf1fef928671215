import SystemPackage
import XenGrant

/// All that a simulated machine knows, behind one lock.
struct MachineState: Sendable {
  /// Index n is the domain n; numbers are not used twice.
  var domains: [DomainState] = []
  var processes: [Int: DomainID] = [:]
  var grantDevices: [HandleID: GrantDeviceState] = [:]
  var allocators: [HandleID: GrantAllocatorState] = [:]
  var eventDevices: [HandleID: EventDeviceState] = [:]
  var connections: [HandleID: StoreConnectionState] = [:]
  /// In the order in which they were made.
  var exports: [ExportedDmaBuf] = []
  var store = StoreTree()
  var calls = CallCounts()
  var faults: [PlannedFault] = []
  private var lastID = 0

  /// A number that nothing else on this machine has.
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

  /// Counts a call, and fails it if that was asked for or its process is gone.
  mutating func begin(_ call: XenError.Call, process: Int) throws(Errno) {
    guard processes[process] != nil else { throw .badFileDescriptor }
    calls[call] += 1
    var failure: Errno?
    for index in faults.indices where faults[index].call == call {
      faults[index].remaining -= 1
      if faults[index].remaining < 0 && failure == nil { failure = faults[index].errno }
    }
    faults.removeAll { $0.remaining < 0 }
    if let failure { throw failure }
  }

  /// Closes whatever a process has open, in the order in which Linux does: memory first, then files.
  mutating func end(process: Int) {
    guard processes.removeValue(forKey: process) != nil else { return }
    for handle in grantDevices.filter({ $0.value.process == process }).keys.sorted() {
      closeGrantDevice(handle)
    }
    for handle in allocators.filter({ $0.value.process == process }).keys.sorted() {
      closeAllocator(handle)
    }
    for handle in eventDevices.filter({ $0.value.process == process }).keys.sorted() {
      closeEventDevice(handle)
    }
    for handle in connections.filter({ $0.value.process == process }).keys.sorted() {
      closeConnection(handle)
    }
  }

  /// Ends a domain as Xen does: nothing in it runs any more, so nobody is notified by it.
  mutating func destroy(_ domain: DomainID) {
    guard let index = livingIndex(domain) else { return }
    for (handle, device) in grantDevices where device.domain == domain {
      for map in device.maps.values { release(map, by: domain) }
      grantDevices[handle] = nil
    }
    for export in exports where export.domain == domain {
      release(export.map, by: domain)
    }
    exports.removeAll { $0.domain == domain }
    allocators = allocators.filter { $0.value.domain != domain }
    for handle in eventDevices.filter({ $0.value.domain == domain }).keys {
      eventDevices[handle] = nil
    }
    for port in domains[index].ports.keys.sorted() { closePort(port, of: domain) }
    domains[index].allocatedPages = 0
    domains[index].isAlive = false
    withdraw(domains[index].grants.references, of: domain)
    connections = connections.filter { $0.value.domain != domain }
    processes = processes.filter { $0.value != domain }
    removeHome(of: domain)
  }
}

/// A call that is to fail.
struct PlannedFault: Sendable {
  let call: XenError.Call
  let errno: Errno
  /// How many calls succeed before.
  var remaining: Int
}
