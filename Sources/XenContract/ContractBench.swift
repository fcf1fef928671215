public import SystemPackage
public import XenGrant

/// Where the contract is tried: a domain that owns pages and one that maps them, which may be the same.
public protocol ContractBench: Sendable {
  /// The domain that shares.
  var owner: any ContractOwner { get }
  /// Xen in that domain, or nil if it is not this process's.
  var ownerXen: Xen? { get }
  /// Its number.
  var ownerDomain: DomainID { get }
  /// Xen in the domain that maps.
  var mapper: Xen { get }
  /// That domain.
  var mapperDomain: DomainID { get }
  /// The owner's gntalloc `limit`, if it is known.
  var allocatorLimit: Int? { get }
  /// The mapper's gntdev `limit`, if it is known.
  var deviceLimit: Int? { get }
  /// A dma-buf that the owner's gntdev can grant, or nil if none can be made here.
  func makeDmaBuf(pages: Int) throws(Errno) -> SampleDmaBuf?
  /// What must be the same before and after each check, by name.
  func census() -> [String: Int]
}

extension ContractBench {
  /// Xen in the owner's domain, or a skip.
  func openOwner() throws -> Xen {
    guard let xen = ownerXen else { throw Skip(reason: "the owner is another process") }
    return xen
  }

  /// Whether both roles are one domain's.
  var isLoopback: Bool { ownerDomain == mapperDomain }
}

/// A dma-buf and a file through which the CPU sees the same memory.
public struct SampleDmaBuf: ~Copyable {
  /// The dma-buf.
  public let dmaBuf: FileDescriptor
  private let memory: FileDescriptor

  /// Takes over both descriptors and closes them at its end.
  public init(dmaBuf: FileDescriptor, memory: FileDescriptor) {
    self.dmaBuf = dmaBuf
    self.memory = memory
  }

  deinit {
    try? dmaBuf.close()
    try? memory.close()
  }

  /// The byte at an offset.
  func byte(at offset: Int) throws -> UInt8 {
    var byte: [UInt8] = [0]
    // SAFETY: one byte is read into an array of one.
    let count = unsafe try byte.withUnsafeMutableBytes {
      unsafe try memory.read(fromAbsoluteOffset: Int64(offset), into: $0)
    }
    try expect(count == 1, "the memory behind the dma-buf ends before byte \(offset)")
    return byte[0]
  }

  /// Writes the byte at an offset.
  func setByte(_ byte: UInt8, at offset: Int) throws {
    // SAFETY: one byte is written from an array of one.
    _ = unsafe try [byte].withUnsafeBytes {
      unsafe try memory.write(toAbsoluteOffset: Int64(offset), $0)
    }
  }
}
