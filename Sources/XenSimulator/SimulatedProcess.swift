public import SystemPackage
public import XenGrant

/// A process in a simulated domain: what is opened through it can be torn down together.
public struct SimulatedProcess: XenPlatform {
  let machine: SimulatedMachine
  let domain: DomainID
  let id: Int

  /// Xen as this process sees it.
  public var xen: Xen { Xen(self) }

  /// Kills the process: Linux closes all that it had open.
  ///
  /// Mappings and shared pages go, and their notifications are carried out; then event channels and the connection to
  /// XenStore close. A page that another domain still maps is freed when that unmaps it. Values that were made through the
  /// process fail with EBADF from then on, and can be dropped at any time.
  public func kill() {
    let id = id
    machine.change { $0.end(process: id) }
  }

  public func openGrantDevice() throws(Errno) -> any GrantDeviceDriver {
    let (domain, id) = (domain, id)
    let handle = try perform(.openGrantDevice) { (state) throws(Errno) in
      let handle = state.makeID()
      state.grantDevices[handle] = GrantDeviceState(domain: domain, process: id)
      return handle
    }
    return SimulatedGrantDevice(self, handle)
  }

  public func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    let (domain, id) = (domain, id)
    let handle = try perform(.openGrantAllocator) { (state) throws(Errno) in
      let handle = state.makeID()
      state.allocators[handle] = GrantAllocatorState(domain: domain, process: id)
      return handle
    }
    return SimulatedGrantAllocator(self, handle)
  }

  public func openEventChannels() throws(Errno) -> any EventChannelDriver {
    let (domain, id) = (domain, id)
    let readiness = try Readiness()
    let handle = try perform(.openEventChannels) { (state) throws(Errno) in
      let handle = state.makeID()
      state.eventDevices[handle] = EventDeviceState(
        domain: domain, process: id, readiness: readiness)
      return handle
    }
    return SimulatedEventChannels(self, handle, readiness)
  }

  public func openStore() throws(Errno) -> any XenStoreDriver {
    let (domain, id) = (domain, id)
    let readiness = try Readiness()
    let handle = try perform(.openStore) { (state) throws(Errno) in
      let handle = state.makeID()
      state.connections[handle] = StoreConnectionState(
        domain: domain, process: id, readiness: readiness)
      return handle
    }
    return SimulatedStore(self, handle, readiness)
  }

  /// Does a call of this process, which counts and can be made to fail.
  func perform<Result: Sendable>(
    _ call: XenError.Call, _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let id = id
    return try machine.perform { (state) throws(Errno) -> Result in
      try state.begin(call, process: id)
      return try body(&state)
    }
  }
}
