import SystemPackage
import XenGrant

/// A simulated /dev/xen/gntalloc, opened.
final class SimulatedGrantAllocator: GrantAllocatorDriver, Sendable {
  private let device: OpenDevice

  init(_ process: SimulatedProcess, _ handle: HandleID, _ descriptor: Int) {
    device = OpenDevice(process, handle, descriptor)
  }

  var fileDescriptor: Int32 { device.fileDescriptor }

  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> GrantedPages {
    let name: XenError.Call = notification == nil ? .share : .shareNotify
    let made = try device.process.perform(name) { (state) throws(Errno) in
      try state.share(
        device.handle, pages: pages, with: domain, writable: writable, notification: notification,
        process: device.process.id)
    }
    return unsafe GrantedPages(
      try device.keep(made.address, pages: pages), references: made.references, index: made.index)
  }

  func map(at index: UInt64, pages: Int) throws(Errno) -> UnsafeMutableRawPointer {
    let address = try device.process.perform(.mapShared) { (state) throws(Errno) in
      try state.map(device.handle, at: index, pages: pages, process: device.process.id)
    }
    return unsafe try device.keep(address, pages: pages)
  }

  func unshare(_ address: UnsafeMutableRawPointer, at index: UInt64, pages: Int) throws(Errno) {
    unsafe try device.end(address, pages: pages, .unshare) { $0.unshare($1, $2, at: index) }
  }

  func forget(_ address: UnsafeMutableRawPointer, pages: Int) {
    unsafe device.forget(address, pages: pages) { state, handle, address in
      for index in (state.allocators[handle]?.shares ?? [:]).keys {
        state.forget(handle, address, at: index)
      }
    }
  }
}
