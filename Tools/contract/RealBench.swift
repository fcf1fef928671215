import DmaBuf
import XenContract
import XenGrant

/// Real Xen: a domain with itself, or with an owner in another domain.
struct RealBench: ContractBench {
  let owner: any ContractOwner
  let ownerXen: Xen?
  let ownerDmaBufs: DmaBufSystem?
  let ownerDomain: DomainID
  let mapper: Xen
  let mapperDmaBufs = DmaBufSystem()
  let mapperDomain: DomainID
  let allocatorLimit: Int?
  let deviceLimit: Int?

  /// The domain in which this process runs, with itself.
  init(_ xen: Xen) throws(XenError) {
    try self.init(xen, LocalOwner(xen), owner: nil)
  }

  /// The domain in which this process runs, with the owner in another domain.
  init(_ xen: Xen, owner: RemoteOwner, in domain: DomainID) throws(XenError) {
    try self.init(xen, owner, owner: domain)
  }

  private init(
    _ xen: Xen, _ owner: any ContractOwner, owner ownerDomain: DomainID?
  ) throws(XenError) {
    mapper = xen
    mapperDomain = try xen.openStore().ownDomain()
    self.owner = owner
    self.ownerDomain = ownerDomain ?? mapperDomain
    ownerXen = ownerDomain == nil ? xen : nil
    ownerDmaBufs = ownerDomain == nil ? DmaBufSystem() : nil
    allocatorLimit = Files.number(in: "/sys/module/xen_gntalloc/parameters/limit")
    deviceLimit = Files.number(in: "/sys/module/xen_gntdev/parameters/limit")
  }

  func census() -> [String: Int] {
    // Bytes, because each check counts twice, and characters take a second on an emulated CPU.
    let lines = (Files.text(of: "/proc/self/maps") ?? "").utf8.split(separator: UInt8(ascii: "\n"))
    return [
      "open descriptors": Files.names(in: "/proc/self/fd").count,
      "mappings of Xen's devices": lines.count { line in
        line.split(separator: UInt8(ascii: " ")).last?.starts(with: "/dev/xen/".utf8) == true
      },
    ]
  }
}
