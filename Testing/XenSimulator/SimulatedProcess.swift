public import DmaBuf
public import SystemPackage
public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A process in a simulated domain. All its open files can be closed together.
public struct SimulatedProcess: XenPlatform {
  let machine: SimulatedMachine
  let domain: DomainID
  let id: Int

  /// Xen as this process sees it.
  public var xen: Xen { Xen(self) }

  /// Linux's memory for devices as this process sees it.
  public var dmaBufs: DmaBufSystem { DmaBufSystem(self) }

  /// Injects a fault into calls of this process.
  ///
  /// - Parameters:
  ///   - fault: the fault, and the calls that it strikes.
  ///   - call: the call; nil for any.
  public func inject(_ fault: Fault, into call: SimulatedCall? = nil) {
    let target = PlannedFault.Target.process(id)
    machine.change { $0.faults.append(PlannedFault(fault, call, target)) }
  }

  /// The calls that this process makes while the closure runs, in their order.
  public func calls<Failure: Error>(
    during body: () throws(Failure) -> Void
  ) throws(Failure) -> [SimulatedCall] {
    try machine.journal(during: body).filter { $0.process == id }.map(\.call)
  }

  /// Kills the process: Linux closes all its open files.
  ///
  /// Mappings and shared pages are removed, and their notifications are performed. Then event
  /// channels and the connection to XenStore are closed. A device stays open, and keeps its
  /// resources, if a duplicate of its descriptor exists: this is how a process hands state over to
  /// its successor, by exec or by systemd's store. A page that another domain still maps is freed
  /// when that domain unmaps it. Values that were made through the process fail with EBADF from
  /// then on, and can be dropped at any time.
  public func kill() {
    let id = id
    machine.change { $0.end(process: id) }
  }

  public func openGrantDevice() throws(Errno) -> any GrantDeviceDriver {
    let (domain, id) = (domain, id)
    let (handle, descriptor) = try perform(.openGrantDevice) { (state) throws(Errno) in
      let handle = state.makeID()
      state.grantDevices[handle] = GrantDeviceState(domain: domain)
      return (handle, state.openDescriptor(of: handle, process: id))
    }
    return SimulatedGrantDevice(self, handle, descriptor)
  }

  public func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    let (domain, id) = (domain, id)
    let (handle, descriptor) = try perform(.openGrantAllocator) { (state) throws(Errno) in
      let handle = state.makeID()
      state.allocators[handle] = GrantAllocatorState(domain: domain)
      return (handle, state.openDescriptor(of: handle, process: id))
    }
    return SimulatedGrantAllocator(self, handle, descriptor)
  }

  public func openEventChannels() throws(Errno) -> any EventChannelDriver {
    let (domain, id) = (domain, id)
    let (readiness, number) = try Readiness.make()
    let (handle, descriptor) = try perform(.openEventChannels) { (state) throws(Errno) in
      let handle = state.makeID()
      state.eventDevices[handle] = EventDeviceState(domain: domain, readiness: readiness)
      return (handle, state.openDescriptor(of: handle, process: id, number))
    }
    return SimulatedEventChannels(self, handle, descriptor, number)
  }

  public func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver {
    let adopted = try adopt(descriptor, as: .grantDevice, .adoptGrantDevice)
    return SimulatedGrantDevice(self, adopted.device, adopted.descriptor)
  }

  public func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver {
    let adopted = try adopt(descriptor, as: .grantAllocator, .adoptGrantAllocator)
    return SimulatedGrantAllocator(self, adopted.device, adopted.descriptor)
  }

  public func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver {
    let adopted = try adopt(descriptor, as: .eventChannels, .adoptEventChannels)
    let number = try machine.perform { (state) throws(Errno) in
      try state.number(ofDescriptor: adopted.descriptor)
    }
    return SimulatedEventChannels(self, adopted.device, adopted.descriptor, number)
  }

  /// Opens the device behind a descriptor, which is closed in any case.
  private func adopt(
    _ descriptor: Int32, as kind: DeviceKind, _ call: XenError.Call
  ) throws(Errno) -> (device: HandleID, descriptor: Int) {
    defer { close(descriptor) }
    let (domain, id) = (Int(domain.rawValue), id)
    return try perform(call) { (state) throws(Errno) in
      try state.adopt(descriptor, as: kind, process: id, of: domain)
    }
  }

  public var isPV: Bool {
    let index = Int(domain.rawValue)
    return machine.change { $0.domains[index].kind == .pv }
  }

  public func grantLimits() -> GrantLimits? {
    // Xen reports its parameters to domain 0 only.
    guard domain == .dom0 else { return nil }
    return machine.change { state in
      let limits = state.domains[0].limits
      return GrantLimits(grantFrames: limits.grantFrames, maptrackFrames: limits.maptrack / 256)
    }
  }

  public func openStore() throws(Errno) -> any XenStoreDriver {
    let (domain, id) = (domain, id)
    let (readiness, descriptor) = try Readiness.make()
    let handle = try perform(.openStore) { (state) throws(Errno) in
      let handle = state.makeID()
      state.connections[handle] = StoreConnectionState(
        domain: domain, process: id, readiness: readiness)
      return handle
    }
    return SimulatedStore(self, handle, descriptor)
  }

  /// Performs a call of this process, which is counted and can be made to fail.
  func perform<Result: Sendable>(
    _ call: SimulatedCall, _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    _ = try begin(call)
    return try carryOut(body)
  }

  /// Performs a call into Xen.
  func perform<Result: Sendable>(
    _ call: XenError.Call, _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try perform(.xen(call), body)
  }

  /// Counts a call, and fails or delays it if a fault strikes it.
  func begin(_ call: SimulatedCall) throws(Errno) -> Verdict {
    let id = id
    let verdict = try machine.perform { (state) throws(Errno) in
      try state.begin(call, process: id)
    }
    if verdict.delay > .zero { pause(verdict.delay) }
    if let failure = verdict.failure { throw failure }
    return verdict
  }

  /// Performs a call that has been counted.
  func carryOut<Result: Sendable>(
    _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let id = id
    return try machine.perform { (state) throws(Errno) -> Result in
      // It may have been killed in the meantime.
      guard state.processes[id] != nil else { throw .badFileDescriptor }
      return try body(&state)
    }
  }

  private func pause(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
    var rest = timespec()
    // SAFETY: one time is read and one written; after a signal, the sleep continues with the
    // remaining time.
    while unsafe nanosleep(&time, &rest) != 0 { time = rest }
  }
}
