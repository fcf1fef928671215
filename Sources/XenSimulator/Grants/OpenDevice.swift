import Synchronization
import SystemPackage
import XenGrant

/// What an open grant device and an open grant allocator have in common: a handle, and mappings in this real process.
struct OpenDevice: ~Copyable {
  let process: SimulatedProcess
  let handle: HandleID
  private let mappings = Mutex(OwnedMappings())

  init(_ process: SimulatedProcess, _ handle: HandleID) {
    self.process = process
    self.handle = handle
  }

  /// Takes over a mapping that was just made.
  func keep(_ address: UInt, pages: Int) throws(Errno) -> UnsafeMutableRawPointer {
    mappings.withLock { $0.insert(address, pages: pages) }
    // SAFETY: the address is a mapping.
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
      throw .badAddress
    }
    return unsafe pointer
  }

  /// Ends a mapping with that call; it goes whether that fails or not.
  func end(
    _ address: UnsafeMutableRawPointer, pages: Int, _ call: XenError.Call,
    _ body: (inout MachineState, HandleID, UInt) -> Void
  ) throws(Errno) {
    // The address is only compared with those that were handed out.
    let address = UInt(bitPattern: address)
    guard mappings.withLock({ $0.contains(address, pages: pages) }) else {
      throw .invalidArgument
    }
    let handle = handle
    defer {
      process.machine.change { body(&$0, handle, address) }
      mappings.withLock { $0.unmap(address) }
    }
    _ = try process.begin(.xen(call))
  }
}
