import CZcopy
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage
import ZcopyTestKit

/// A guest that shares and publishes a buffer, and maps the buffers that the server publishes.
final class Guest {
  let domain: SimulatedDomain
  private let owner: ExportingGuest
  private let offered: OfferedDirectory
  private var peer: ImportingGuest?

  static let pages = 5

  init(_ domain: SimulatedDomain, _ stage: Stage) throws {
    self.domain = domain
    owner = try ExportingGuest(
      stage, pages: Self.pages, frame: GrantReference.pageSize, name: "fuzz", of: domain)
    offered = try OfferedDirectory(
      byteCount: 8192, peer: stage.backend.id, limits: BufferLimits(), xen: domain.xen)
  }

  var knowledge: Knowledge {
    Knowledge(
      domain: UInt32(domain.id.rawValue), directory: owner.directory.rawValue,
      size: UInt64(owner.byteCount), references: owner.references.map(\.rawValue),
      path: owner.path, offered: offered.reference.rawValue, offeredSize: 8192)
  }

  /// Performs a random action of the guest.
  func act(_ random: inout RepeatableNumbers) {
    switch random.below(8) {
    case 0...2: try? owner.draw(page: random.edgeWord())
    case 3: _ = try? owner.changes()
    case 4: if random.oneIn(8) { try? owner.askBack() }
    case 5:
      // The publication may be gone, or its buffer may be.
      let name = random.one(of: ["a", "b", "c"])
      peer =
        peer ?? (try? ImportingGuest(domain, "/local/domain/0/data/zcopy/\(name)"))
    case 6: try? peer?.use(FrameNumber(rawValue: random.edgeWord()))
    default:
      if random.oneIn(2) { try? peer?.release() } else { peer?.kill() }
      peer = nil
    }
  }
}
