import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// One page of simulated machine memory.
struct PageFrame: Sendable {
  let store: PageStore
  let index: Int

  /// Where the page begins in its file.
  var offset: Int { index * GrantReference.pageSize }
}

extension GrantReference {
  /// The number of pages for that many bytes.
  static func pages(holding byteCount: Int) -> Int { (byteCount + pageSize - 1) / pageSize }
}

extension PageStore {
  /// Pages that follow each other.
  func frames(_ indices: Range<Int>) -> [PageFrame] {
    indices.map { PageFrame(store: self, index: $0) }
  }
}

/// Pages that follow each other in one file.
struct PageRun {
  let store: PageStore
  let firstIndex: Int
  var count: Int

  var offset: Int { firstIndex * GrantReference.pageSize }
  var byteCount: Int { count * GrantReference.pageSize }

  /// The fewest runs that cover those pages in their order.
  static func runs(of frames: [PageFrame]) -> [PageRun] {
    var runs: [PageRun] = []
    for frame in frames {
      if let last = runs.last, last.store === frame.store,
        last.firstIndex + last.count == frame.index
      {
        runs[runs.count - 1].count += 1
      } else {
        runs.append(PageRun(store: frame.store, firstIndex: frame.index, count: 1))
      }
    }
    return runs
  }

  /// Returns the pages to the machine; later reads return zeroes.
  func discard() {
    guard store.discardsFreedPages else { return }
    // SAFETY: the mapping is this call's own and is gone when it ends.
    let address = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, store.descriptor, offset)
    guard let address = unsafe address, UInt(bitPattern: address) != UInt.max else { return }
    unsafe _ = madvise(address, byteCount, MADV_REMOVE)
    unsafe _ = munmap(address, byteCount)
  }
}

/// Pages mapped into this process. Addresses are numbers here, so that the machine's state stays
/// Sendable.
enum PageMapping {
  /// Maps pages side by side, and returns the address.
  static func map(_ frames: [PageFrame], writable: Bool) throws(Errno) -> UInt {
    let protection = PROT_READ | (writable ? PROT_WRITE : 0)
    let runs = PageRun.runs(of: frames)
    let byteCount = frames.count * GrantReference.pageSize
    guard let first = runs.first else { throw .invalidArgument }
    if runs.count == 1 {
      return try mapped(0, byteCount, protection, MAP_SHARED, first.store.descriptor, first.offset)
    }
    let reservation = try mapped(0, byteCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    var next = reservation
    do throws(Errno) {
      for run in runs {
        _ = try mapped(
          next, run.byteCount, protection, MAP_SHARED | MAP_FIXED, run.store.descriptor,
          run.offset)
        next += UInt(run.byteCount)
      }
    } catch {
      unmap(reservation, byteCount: byteCount)
      throw error
    }
    return reservation
  }

  /// Maps bytes of a file, and returns the address.
  static func map(
    file: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UInt {
    try mapped(0, byteCount, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file, offset)
  }

  /// Removes a mapping.
  static func unmap(_ address: UInt, byteCount: Int) {
    // SAFETY: callers pass what map(_:writable:) returned, once.
    unsafe _ = munmap(UnsafeMutableRawPointer(bitPattern: address), byteCount)
  }

  private static func mapped(
    _ address: UInt, _ byteCount: Int, _ protection: Int32, _ flags: Int32, _ file: Int32,
    _ offset: Int
  ) throws(Errno) -> UInt {
    // SAFETY: the address is 0 or lies in a reservation that the caller made.
    let result = unsafe mmap(
      UnsafeMutableRawPointer(bitPattern: address), byteCount, protection, flags, file, offset)
    let number = UInt(bitPattern: result)
    guard number != UInt.max else { throw Errno(rawValue: errno) }
    return number
  }
}

/// The mappings that one open device made in this real process, also after the simulated process
/// was killed.
struct OwnedMappings: ~Copyable {
  private var byteCounts: [UInt: Int] = [:]

  mutating func insert(_ address: UInt, pages: Int) {
    byteCounts[address] = pages * GrantReference.pageSize
  }

  /// Whether there is a mapping of exactly that many pages at an address.
  func contains(_ address: UInt, pages: Int) -> Bool {
    byteCounts[address] == pages * GrantReference.pageSize
  }

  mutating func unmap(_ address: UInt) {
    guard let byteCount = byteCounts.removeValue(forKey: address) else { return }
    PageMapping.unmap(address, byteCount: byteCount)
  }

  deinit {
    for (address, byteCount) in byteCounts {
      PageMapping.unmap(address, byteCount: byteCount)
    }
  }
}
