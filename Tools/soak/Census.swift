import DmaBuf
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// The resources of this process and this domain.
struct Census {
  /// Descriptors that are open in this process.
  let descriptors: Int
  /// This process's private memory, KiB.
  let anonymous: Int
  /// The available memory, KiB.
  let available: Int
  /// The kernel's slab memory, KiB.
  let slab: Int
  /// The number of dma-bufs in the domain, whichever process holds them; -1 without debugfs.
  let dmaBufs: Int

  init() {
    descriptors = Files.names(in: "/proc/self/fd").count
    anonymous = Self.number(after: "RssAnon:", in: "/proc/self/status") ?? 0
    available = Self.number(after: "MemAvailable:", in: "/proc/meminfo") ?? 0
    slab = Self.number(after: "Slab:", in: "/proc/meminfo") ?? 0
    dmaBufs = Self.number(after: "Total ", in: "/sys/kernel/debug/dma_buf/bufinfo") ?? -1
  }

  /// The first number in the line that begins with the prefix.
  private static func number(after beginning: String, in path: String) -> Int? {
    let lines = Files.text(of: path)?.split(separator: "\n")
    let line = lines?.first { $0.hasPrefix(beginning) }?.dropFirst(beginning.count)
    return line?.split { $0 == " " || $0 == "\t" }.first.flatMap { Int($0) }
  }
}

extension GrantDevice {
  /// References of one grant table of 64 frames, Xen's default.
  private static let tableSize = 64 * 512
  private static let perCall = 1024

  /// The number of pages that another domain grants to this one.
  ///
  /// Xen's debug key shows only mapped grants, so one byte of each possible reference is copied.
  func countGrants(of domain: DomainID) throws(XenError) -> Int {
    var bytes = [UInt8](repeating: 0, count: Self.perCall)
    var count = 0
    for start in stride(from: 0, to: Self.tableSize, by: Self.perCall) {
      let segments = (0..<Self.perCall).map { index in
        GrantCopySegment(
          GrantReference(rawValue: UInt32(start + index)), local: index, byteCount: 1)
      }
      var span = bytes.mutableSpan
      // SAFETY: the array is borrowed for the copy, and bytes are valid for any bits.
      var memory = unsafe span.mutableBytes
      count += try copy(segments, of: domain, into: &memory).count { $0 == .okay }
    }
    return count
  }
}
