import DmaBuf
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

struct Stop: Error, CustomStringConvertible {
  let description: String
}

/// What all comparisons need.
struct Bench {
  let xen: Xen
  let dmaBufs = DmaBufSystem()
  /// The guest: owner of what is mapped, peer of what is shared.
  let guest: DomainID
  let rounds: Int
  let limits = BufferLimits(bytesPerBuffer: 256 << 20)
  var report = Report()

  init(_ xen: Xen, guest: DomainID, rounds: Int) {
    self.xen = xen
    self.guest = guest
    self.rounds = rounds
  }

  /// Runs a call of the floor.
  func floor(_ what: String, _ result: @autoclosure () -> Int32) throws {
    guard result() == 0 else { throw Stop(description: "plain C cannot \(what): errno \(errno)") }
  }
}

/// A buffer that the guest shares.
struct GuestBuffer {
  let directory: GrantReference
  let pages: Int

  var byteCount: Int { pages * GrantReference.pageSize }

  /// Whether its pages, and not the handful of calls, are most of what it costs.
  var isLarge: Bool { pages >= 256 }

  /// A buffer as the command line says it: `DIRECTORY:PAGES`.
  init?(_ text: String) {
    let parts = text.split(separator: ":").compactMap { UInt32($0) }
    guard parts.count == 2 else { return nil }
    directory = GrantReference(rawValue: parts[0])
    pages = Int(parts[1])
  }
}
