import SystemPackage
import XenGrant

/// A simulated connection to xenstored.
final class SimulatedStore: XenStoreDriver, Sendable {
  private let process: SimulatedProcess
  private let handle: HandleID
  private let descriptor: DescriptorNumber

  init(_ process: SimulatedProcess, _ handle: HandleID, _ descriptor: DescriptorNumber) {
    self.process = process
    self.handle = handle
    self.descriptor = descriptor
  }

  deinit {
    let handle = handle
    process.machine.change { $0.closeConnection(handle) }
  }

  var fileDescriptor: Int32 { descriptor.rawValue }

  func read(_ path: String, transaction: UInt32) throws(Errno) -> [UInt8] {
    try access(.read, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.read(path, as: domain).value
    }
  }

  func write(_ path: String, _ value: [UInt8], transaction: UInt32) throws(Errno) {
    try access(.write, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.write(path, value, as: domain)
    }
  }

  func makeDirectory(_ path: String, transaction: UInt32) throws(Errno) {
    try access(.makeDirectory, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.makeDirectory(path, as: domain)
    }
  }

  func list(_ path: String, transaction: UInt32) throws(Errno) -> [String] {
    try access(.list, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.read(path, as: domain).children
    }
  }

  func remove(_ path: String, transaction: UInt32) throws(Errno) {
    try access(.remove, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.remove(path, as: domain)
    }
  }

  func permissions(_ path: String, transaction: UInt32) throws(Errno) -> StorePermissions {
    try access(.permissions, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.read(path, as: domain).permissions
    }
  }

  func setPermissions(
    _ path: String, _ permissions: StorePermissions, transaction: UInt32
  ) throws(Errno) {
    try access(.setPermissions, path, transaction) { (tree, path, domain) throws(Errno) in
      try tree.setPermissions(path, permissions, as: domain)
    }
  }

  func watch(_ path: String, token: String) throws(Errno) {
    try process.perform(.watch) { (state) throws(Errno) in
      try state.watch(handle, path, token: token)
    }
  }

  func unwatch(_ path: String, token: String) throws(Errno) {
    try process.perform(.unwatch) { (state) throws(Errno) in
      try state.unwatch(handle, path, token: token)
    }
  }

  func nextWatchEvent() throws(Errno) -> StoreWatchEvent? {
    try process.perform(.readWatch) { (state) throws(Errno) in
      try state.nextWatchEvent(handle)
    }
  }

  func isIntroduced(_ domain: DomainID) throws(Errno) -> Bool {
    let isPrivileged = process.domain == .dom0
    return try process.perform(.isIntroduced) { (state) throws(Errno) in
      guard isPrivileged else { throw .permissionDenied }
      return state.livingIndex(domain) != nil
    }
  }

  func startTransaction() throws(Errno) -> UInt32 {
    try process.perform(.startTransaction) { (state) throws(Errno) in
      try state.startTransaction(handle)
    }
  }

  func endTransaction(_ transaction: UInt32, abort: Bool) throws(Errno) {
    try process.perform(.endTransaction) { (state) throws(Errno) in
      try state.endTransaction(handle, transaction, abort: abort)
    }
  }

  private func access<Result: Sendable>(
    _ name: XenError.Call, _ path: String, _ transaction: UInt32,
    _ body: (inout StoreTree, String, DomainID) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try process.perform(name) { (state) throws(Errno) in
      try state.access(handle, path, transaction, body)
    }
  }
}
