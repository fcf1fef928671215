import DmaBuf
import Testing
import XenContract
import XenGrant
import XenSimulator

/// A simulated machine on which the contract is checked.
struct SimulatorBench: ContractBench {
  /// The domains that take part.
  enum Roles: String, CaseIterable, CustomTestStringConvertible {
    case dom0WithItself = "domain 0 with itself"
    case guestWithItself = "a guest with itself"
    case guestToDom0 = "a guest to domain 0"
    case dom0ToGuest = "domain 0 to a guest"
    case guestToGuest = "a guest to a guest"

    var testDescription: String { rawValue }

    /// The ids of the owner and the mapper.
    var domains: (owner: Int, mapper: Int) {
      switch self {
      case .dom0WithItself: (0, 0)
      case .guestWithItself: (1, 1)
      case .guestToDom0: (1, 0)
      case .dom0ToGuest: (0, 2)
      case .guestToGuest: (1, 2)
      }
    }
  }

  let machine = SimulatedMachine()
  let domains: [SimulatedDomain]
  let ownerRole: SimulatedDomain
  let mapperRole: SimulatedDomain
  let allocatorLimit: Int? = 1024
  let deviceLimit: Int? = 512

  init(_ roles: Roles, kind: DomainKind = .pvh, hasDmaBuf: Bool = true) throws {
    var domains: [SimulatedDomain] = []
    for _ in 0..<3 {
      domains.append(
        try machine.addDomain(
          kind: kind, gntallocLimit: 1024, gntdevLimit: 512, hasDmaBuf: hasDmaBuf))
    }
    self.domains = domains
    ownerRole = domains[roles.domains.owner]
    mapperRole = domains[roles.domains.mapper]
  }

  var owner: any ContractOwner { LocalOwner(ownerRole.xen) }
  var ownerXen: Xen? { ownerRole.xen }
  var ownerDmaBufs: DmaBufSystem? { ownerRole.dmaBufs }
  var ownerDomain: DomainID { ownerRole.id }
  var mapper: Xen { mapperRole.xen }
  var mapperDmaBufs: DmaBufSystem { mapperRole.dmaBufs }
  var mapperDomain: DomainID { mapperRole.id }

  func census() -> [String: Int] {
    var counts: [String: Int] = ["XenStore nodes": machine.storeNodes]
    for domain in domains {
      let census = domain.census
      for child in Mirror(reflecting: census).children {
        if let label = child.label, let count = child.value as? Int {
          counts["\(label) of domain \(domain.id)"] = count
        }
      }
    }
    return counts
  }
}

/// A simulated machine with an owner that gets its requests through XenStore.
struct RemoteBench: ContractBench {
  let owner: any ContractOwner
  let local: SimulatorBench

  var ownerXen: Xen? { nil }
  var ownerDmaBufs: DmaBufSystem? { nil }
  var ownerDomain: DomainID { local.ownerDomain }
  var mapper: Xen { local.mapper }
  var mapperDmaBufs: DmaBufSystem { local.mapperDmaBufs }
  var mapperDomain: DomainID { local.mapperDomain }
  var allocatorLimit: Int? { local.allocatorLimit }
  var deviceLimit: Int? { local.deviceLimit }

  func census() -> [String: Int] { local.census() }
}
