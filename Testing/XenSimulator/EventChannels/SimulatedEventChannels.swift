import SystemPackage
import XenGrant

/// A simulated /dev/xen/evtchn, opened.
final class SimulatedEventChannels: EventChannelDriver, Sendable {
  private let process: SimulatedProcess
  private let handle: HandleID
  private let descriptor: Int
  private let number: DescriptorNumber

  init(
    _ process: SimulatedProcess, _ handle: HandleID, _ descriptor: Int, _ number: DescriptorNumber
  ) {
    self.process = process
    self.handle = handle
    self.descriptor = descriptor
    self.number = number
  }

  deinit {
    let descriptor = descriptor
    process.machine.change { $0.closeDescriptor(descriptor) }
  }

  var fileDescriptor: Int32 { number.rawValue }

  func bindUnbound(for domain: DomainID) throws(Errno) -> EventChannelPort {
    let number = try process.perform(.bindUnbound) { (state) throws(Errno) in
      try state.bindUnbound(handle, for: domain)
    }
    return try port(number)
  }

  func bindInterdomain(
    _ domain: DomainID, _ port: EventChannelPort
  ) throws(Errno) -> EventChannelPort {
    let number = try process.perform(.bindInterdomain) { (state) throws(Errno) in
      try state.bindInterdomain(handle, domain, port.rawValue)
    }
    return try self.port(number)
  }

  func notify(_ port: EventChannelPort) throws(Errno) {
    try process.perform(.notify) { (state) throws(Errno) in
      try state.notify(handle, port.rawValue)
    }
  }

  func nextPending() throws(Errno) -> EventChannelPort? {
    let number = try process.perform(.pending) { (state) throws(Errno) in
      try state.nextPending(handle)
    }
    return number.flatMap(EventChannelPort.init(rawValue:))
  }

  func unmask(_ port: EventChannelPort) throws(Errno) {
    try process.perform(.unmask) { (state) throws(Errno) in
      try state.unmask(handle, port.rawValue)
    }
  }

  func unbind(_ port: EventChannelPort) throws(Errno) {
    try process.perform(.unbind) { (state) throws(Errno) in
      try state.unbind(handle, port.rawValue)
    }
  }

  private func port(_ number: UInt32) throws(Errno) -> EventChannelPort {
    guard let port = EventChannelPort(rawValue: number) else { throw .invalidArgument }
    return port
  }
}
