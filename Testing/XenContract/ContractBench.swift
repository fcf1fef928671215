public import DmaBuf
import SystemPackage
public import XenGrant

/// The environment of the contract: a domain that owns pages and a domain that maps them, which may
/// be the same.
public protocol ContractBench: Sendable {
  /// The domain that shares.
  var owner: any ContractOwner { get }
  /// Xen in that domain; nil if this process runs in another domain.
  var ownerXen: Xen? { get }
  /// Its number.
  var ownerDomain: DomainID { get }
  /// Xen in the domain that maps.
  var mapper: Xen { get }
  /// Linux in that domain.
  var mapperDmaBufs: DmaBufSystem { get }
  /// That domain.
  var mapperDomain: DomainID { get }
  /// The owner's gntalloc `limit`, if known.
  var allocatorLimit: Int? { get }
  /// The mapper's gntdev `limit`, if known.
  var deviceLimit: Int? { get }
  /// Linux in the owner's domain; nil if this process runs in another domain.
  var ownerDmaBufs: DmaBufSystem? { get }
  /// Values that must be equal before and after each check, by name.
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

  /// Whether one domain has both roles.
  var isLoopback: Bool { ownerDomain == mapperDomain }
}
