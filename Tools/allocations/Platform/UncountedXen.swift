import SystemPackage
import XenGrant
import XenSimulator

/// A simulated process whose simulation of event channels is not counted.
///
/// For each frame, only `notify`, `nextPending` and `unmask` of an event channel are called here.
/// They stand for calls into libxenevtchn that are only system calls. Any other simulator call that
/// the server made for each frame would be counted.
struct UncountedXen: XenPlatform {
  let process: SimulatedProcess

  func openEventChannels() throws(Errno) -> any EventChannelDriver {
    UncountedEventChannels(try process.openEventChannels())
  }

  func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver {
    UncountedEventChannels(try process.adoptEventChannels(descriptor))
  }

  func openGrantDevice() throws(Errno) -> any GrantDeviceDriver { try process.openGrantDevice() }

  func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    try process.openGrantAllocator()
  }

  func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver {
    try process.adoptGrantDevice(descriptor)
  }

  func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver {
    try process.adoptGrantAllocator(descriptor)
  }

  func openStore() throws(Errno) -> any XenStoreDriver { try process.openStore() }

  var isPV: Bool { process.isPV }

  func grantLimits() -> GrantLimits? { process.grantLimits() }
}

/// An event channel device whose simulation is not counted.
///
/// The simulator never calls back into the server, so that no allocation of the server is hidden.
private final class UncountedEventChannels: EventChannelDriver {
  private let channels: any EventChannelDriver

  init(_ channels: any EventChannelDriver) { self.channels = channels }

  var fileDescriptor: Int32 { channels.fileDescriptor }

  func notify(_ port: EventChannelPort) throws(Errno) {
    try Allocations.uncounted { () throws(Errno) in try channels.notify(port) }
  }

  func nextPending() throws(Errno) -> EventChannelPort? {
    try Allocations.uncounted { () throws(Errno) in try channels.nextPending() }
  }

  func unmask(_ port: EventChannelPort) throws(Errno) {
    try Allocations.uncounted { () throws(Errno) in try channels.unmask(port) }
  }

  func bindUnbound(for domain: DomainID) throws(Errno) -> EventChannelPort {
    try channels.bindUnbound(for: domain)
  }

  func bindInterdomain(
    _ domain: DomainID, _ port: EventChannelPort
  ) throws(Errno) -> EventChannelPort {
    try channels.bindInterdomain(domain, port)
  }

  func unbind(_ port: EventChannelPort) throws(Errno) { try channels.unbind(port) }
}
