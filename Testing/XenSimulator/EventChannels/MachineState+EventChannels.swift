import SystemPackage
import XenGrant

extension MachineState {
  /// Ports of a domain with Xen's older event channel interface.
  private static let portLimit: UInt32 = 4096

  mutating func bindUnbound(_ handle: HandleID, for allowed: DomainID) throws(Errno) -> UInt32 {
    try open(handle, peer: .none(allowed: allowed))
  }

  mutating func bindInterdomain(
    _ handle: HandleID, _ remote: DomainID, _ port: UInt32
  ) throws(Errno) -> UInt32 {
    guard let device = eventDevices[handle] else { throw .badFileDescriptor }
    guard let index = livingIndex(remote) else { throw .noSuchProcess }
    guard case .none(allowed: device.domain)? = domains[index].ports[port]?.peer else {
      throw .invalidArgument
    }
    let local = try open(handle, peer: .port(remote, port))
    domains[index].ports[port]?.peer = .port(device.domain, local)
    // Xen: signals may have been lost while the remote port was unbound, so assume one.
    raise(local, of: device.domain)
    return local
  }

  private mutating func open(_ handle: HandleID, peer: EventPort.Peer) throws(Errno) -> UInt32 {
    guard let device = eventDevices[handle] else { throw .badFileDescriptor }
    let index = Int(device.domain.rawValue)
    // Xen takes the lowest free port, so numbers are reused soon.
    guard
      let port = (1..<Self.portLimit).first(where: { domains[index].ports[$0] == nil })
    else { throw .noSpace }
    domains[index].ports[port] = EventPort(device: handle, peer: peer)
    eventDevices[handle]?.ports.insert(port)
    return port
  }

  mutating func notify(_ handle: HandleID, _ port: UInt32) throws(Errno) {
    guard let device = eventDevices[handle] else { throw .badFileDescriptor }
    guard device.ports.contains(port) else { throw .socketNotConnected }
    send(from: port, of: device.domain)
  }

  mutating func nextPending(_ handle: HandleID) throws(Errno) -> UInt32? {
    guard eventDevices[handle] != nil else { throw .badFileDescriptor }
    guard eventDevices[handle]?.ring.isEmpty == false else { return nil }
    let port = eventDevices[handle]?.ring.removeFirst()
    updateReadiness(ofDevice: handle)
    return port
  }

  /// Linux reports no error for a port that does not belong to the device.
  mutating func unmask(_ handle: HandleID, _ port: UInt32) throws(Errno) {
    guard let device = eventDevices[handle] else { throw .badFileDescriptor }
    guard device.ports.contains(port) else { return }
    domains[Int(device.domain.rawValue)].ports[port]?.isEnabled = true
    deliver(port, of: device.domain)
  }

  mutating func unbind(_ handle: HandleID, _ port: UInt32) throws(Errno) {
    guard let device = eventDevices[handle] else { throw .badFileDescriptor }
    guard device.ports.contains(port) else { throw .socketNotConnected }
    eventDevices[handle]?.ports.remove(port)
    domains[Int(device.domain.rawValue)].ports[port]?.device = nil
    drop(port, of: device.domain)
  }

  mutating func closeEventDevice(_ handle: HandleID) {
    for port in (eventDevices[handle]?.ports ?? []).sorted() { try? unbind(handle, port) }
    eventDevices[handle] = nil
  }

  /// Signals the other end of a port.
  mutating func send(from port: EventChannelPort, of domain: DomainID) {
    send(from: port.rawValue, of: domain)
  }

  private mutating func send(from port: UInt32, of domain: DomainID) {
    guard
      case .port(let remote, let remotePort)? =
        domains[Int(domain.rawValue)].ports[port]?.peer
    else { return }
    raise(remotePort, of: remote)
  }

  private mutating func raise(_ port: UInt32, of domain: DomainID) {
    domains[Int(domain.rawValue)].ports[port]?.isPending = true
    deliver(port, of: domain)
  }

  private mutating func deliver(_ port: UInt32, of domain: DomainID) {
    let index = Int(domain.rawValue)
    guard let state = domains[index].ports[port], state.isPending, state.isEnabled,
      let device = state.device
    else { return }
    domains[index].ports[port]?.isPending = false
    domains[index].ports[port]?.isEnabled = false
    eventDevices[device]?.ring.append(port)
    updateReadiness(ofDevice: device)
  }

  private func updateReadiness(ofDevice handle: HandleID) {
    guard let device = eventDevices[handle] else { return }
    device.readiness.set(!device.ring.isEmpty)
  }

  /// Keeps a port for an unmap notification; no port is fine.
  mutating func hold(_ port: EventChannelPort?, of domain: DomainID) throws(Errno) {
    guard let number = port?.rawValue else { return }
    let index = Int(domain.rawValue)
    guard domains[index].ports[number]?.device != nil else { throw .invalidArgument }
    domains[index].ports[number]?.references += 1
  }

  mutating func unhold(_ port: EventChannelPort?, of domain: DomainID) {
    guard let number = port?.rawValue else { return }
    drop(number, of: domain)
  }

  private mutating func drop(_ port: UInt32, of domain: DomainID) {
    let index = Int(domain.rawValue)
    guard domains[index].ports[port] != nil else { return }
    domains[index].ports[port]?.references -= 1
    if domains[index].ports[port]?.references == 0 { closePort(port, of: domain) }
  }

  /// Closes a port; the other end waits for this domain to connect again.
  mutating func closePort(_ port: UInt32, of domain: DomainID) {
    guard let closed = domains[Int(domain.rawValue)].ports.removeValue(forKey: port),
      case .port(let remote, let remotePort) = closed.peer
    else { return }
    domains[Int(remote.rawValue)].ports[remotePort]?.peer = .none(allowed: domain)
  }
}
