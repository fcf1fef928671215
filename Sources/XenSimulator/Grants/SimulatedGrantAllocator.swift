import SystemPackage
import XenGrant

/// A simulated /dev/xen/gntalloc, opened.
final class SimulatedGrantAllocator: GrantAllocatorDriver, Sendable {
  private let device: OpenDevice

  init(_ process: SimulatedProcess, _ handle: HandleID) { device = OpenDevice(process, handle) }

  deinit {
    let handle = device.handle
    device.process.machine.change { $0.closeAllocator(handle) }
  }

  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> (address: UnsafeMutableRawPointer, references: [GrantReference]) {
    let name: XenError.Call = notification == nil ? .share : .shareNotify
    let made = try device.process.perform(name) { (state) throws(Errno) in
      try state.share(
        device.handle, pages: pages, with: domain, writable: writable, notification: notification)
    }
    return unsafe (try device.keep(made.address, pages: pages), made.references)
  }

  func unshare(_ address: UnsafeMutableRawPointer, pages: Int) throws(Errno) {
    unsafe try device.end(address, pages: pages, .unshare) { $0.unshare($1, $2) }
  }
}
