import Synchronization
import SystemPackage
import XenGrant

/// A simulated /dev/xen/gntalloc, opened.
final class SimulatedGrantAllocator: GrantAllocatorDriver, Sendable {
  private let process: SimulatedProcess
  private let handle: HandleID
  private let mappings = Mutex(OwnedMappings())

  init(_ process: SimulatedProcess, _ handle: HandleID) {
    self.process = process
    self.handle = handle
  }

  deinit {
    let handle = handle
    process.machine.change { $0.closeAllocator(handle) }
  }

  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> (address: UnsafeMutableRawPointer, references: [GrantReference]) {
    let name: XenError.Call = notification == nil ? .share : .shareNotify
    let made = try process.perform(name) { (state) throws(Errno) in
      try state.share(
        handle, pages: pages, with: domain, writable: writable, notification: notification)
    }
    mappings.withLock { $0.insert(made.address, pages: pages) }
    // SAFETY: the address is a mapping that was just made.
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: made.address) else {
      throw .badAddress
    }
    return unsafe (pointer, made.references)
  }

  func unshare(_ address: UnsafeMutableRawPointer, pages: Int) throws(Errno) {
    // The address is only compared with those that were handed out.
    let address = UInt(bitPattern: address)
    guard mappings.withLock({ $0.contains(address, pages: pages) }) else {
      throw .invalidArgument
    }
    defer { mappings.withLock { $0.unmap(address) } }
    do throws(Errno) {
      try process.perform(.unshare) { (state) throws(Errno) in state.unshare(handle, address) }
    } catch {
      let handle = handle
      process.machine.change { $0.unshare(handle, address) }
      throw error
    }
  }
}
