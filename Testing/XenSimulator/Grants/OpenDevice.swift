import Synchronization
import SystemPackage
import XenGrant

/// The common part of an open grant device and an open grant allocator: a handle, and mappings in
/// this real process.
struct OpenDevice: ~Copyable {
  let process: SimulatedProcess
  let handle: HandleID
  private let descriptor: Int
  private let number: Mutex<DescriptorNumber?> = Mutex(nil)
  private let mappings = Mutex(OwnedMappings())

  init(_ process: SimulatedProcess, _ handle: HandleID, _ descriptor: Int) {
    self.process = process
    self.handle = handle
    self.descriptor = descriptor
  }

  deinit {
    let descriptor = descriptor
    process.machine.change { $0.closeDescriptor(descriptor) }
  }

  /// The real descriptor, made on first use; -1 if that fails.
  var fileDescriptor: Int32 {
    if let known = number.withLock({ $0 }) { return known.rawValue }
    let descriptor = descriptor
    let made = try? process.machine.perform { (state) throws(Errno) in
      try state.number(ofDescriptor: descriptor)
    }
    number.withLock { $0 = made }
    return made?.rawValue ?? -1
  }

  /// Records a new mapping.
  func keep(_ address: UInt, pages: Int) throws(Errno) -> UnsafeMutableRawPointer {
    mappings.withLock { $0.insert(address, pages: pages) }
    // SAFETY: the address is a mapping.
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
      throw .badAddress
    }
    return unsafe pointer
  }

  /// Removes a mapping from the process's memory.
  func forget(
    _ address: UnsafeMutableRawPointer, pages: Int,
    _ body: (inout MachineState, HandleID, UInt) -> Void
  ) {
    // The address is only compared with those of existing mappings.
    let address = UInt(bitPattern: address)
    guard mappings.withLock({ $0.contains(address, pages: pages) }) else { return }
    let handle = handle
    process.machine.change { body(&$0, handle, address) }
    mappings.withLock { $0.unmap(address) }
  }

  /// Ends a mapping with a call. The mapping is removed even if the call fails.
  func end(
    _ address: UnsafeMutableRawPointer, pages: Int, _ call: XenError.Call,
    _ body: (inout MachineState, HandleID, UInt) -> Void
  ) throws(Errno) {
    // The address is only compared with those of existing mappings.
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
