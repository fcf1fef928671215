public import DmaBuf
import SystemPackage
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
  /// Linux in that domain.
  var mapperDmaBufs: DmaBufSystem { get }
  /// That domain.
  var mapperDomain: DomainID { get }
  /// The owner's gntalloc `limit`, if it is known.
  var allocatorLimit: Int? { get }
  /// The mapper's gntdev `limit`, if it is known.
  var deviceLimit: Int? { get }
  /// Linux in the owner's domain, or nil if it is not this process's.
  var ownerDmaBufs: DmaBufSystem? { get }
  /// What must be the same before and after each check, by name.
  func census() -> [String: Int]
}

extension ContractBench {
  /// Xen in the owner's domain, or a skip.
  func openOwner() throws -> Xen {
    guard let xen = ownerXen else { throw Skip(reason: "the owner is another process") }
    return xen
  }

  /// Linux in the owner's domain, or a skip.
  func openDmaBufs() throws -> DmaBufSystem {
    guard let dmaBufs = ownerDmaBufs else { throw Skip(reason: "the owner is another process") }
    return dmaBufs
  }

  /// Whether both roles are one domain's.
  var isLoopback: Bool { ownerDomain == mapperDomain }
}
