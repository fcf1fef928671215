import DmaBuf
import SystemPackage

enum HeapChecks {
  private static let heap = "system"

  static let all: [DmaBufCheck] = [
    DmaBufCheck("a heap's memory is zero, in whole pages, each time it is allocated") { bench in
      let dmaBufs = try openHeap(bench)
      for (wanted, size) in [(1, 1), (pageSize, 1), (pageSize + 1, 2), (64 * pageSize, 64)] {
        // Twice: the heap reuses memory.
        for _ in 0..<2 {
          let buffer = try dmaBufs.allocate(byteCount: wanted, fromHeap: heap)
          try expect("the size of \(wanted) bytes", buffer.byteCount, is: size * pageSize)
          let mapping = try buffer.map(writable: true)
          try buffer.withProcessorAccess(.readWrite) {
            for offset in stride(from: 0, to: buffer.byteCount, by: 4) {
              try expect(
                mapping.memory.loadWord(at: offset) == 0, "the memory at \(offset) is not zero")
              mapping.memory.storeWord(0xFFFF_FFFF, at: offset)
            }
          }
        }
      }
    },

    DmaBufCheck("an allocation of no bytes is EINVAL") { bench in
      let dmaBufs = try openHeap(bench)
      try expectErrno(.invalidArgument, of: "no memory") {
        try dmaBufs.allocate(byteCount: 0, fromHeap: heap)
      }
    },

    DmaBufCheck("a missing heap is ENOENT, and the error lists the existing heaps") { bench in
      let dmaBufs = try openHeap(bench)
      do {
        _ = try dmaBufs.allocate(byteCount: 4096, fromHeap: "no-such-heap")
      } catch let error as DmaBufError {
        try expect("the errno", error.errno, is: .noSuchFileOrDirectory)
        try expect("\(error)".contains("the heaps here are"), "the error is: \(error)")
        try expect("\(error)".contains(heap), "the error is: \(error)")
        return
      }
      throw Failure(reason: "an allocation from a missing heap succeeds")
    },

    DmaBufCheck("all mappings of a heap's buffer share one memory, which outlives its descriptor") {
      bench in
      let first: LocalMapping
      let second: LocalMapping
      do {
        let buffer = try openHeap(bench).allocate(byteCount: 2 * pageSize, fromHeap: heap)
        first = try buffer.map(writable: true)
        second = try buffer.map(writable: false)
      }
      first.memory.storeWord(word(1), at: pageSize)
      try expect("the word", second.memory.loadWord(at: pageSize), is: word(1))
    },
  ]

  /// Skips the check unless there is a heap.
  private static func openHeap(_ bench: any DmaBufBench) throws -> DmaBufSystem {
    guard bench.dmaBufs.heaps.contains(heap) else { throw Skip(reason: "there is no heap") }
    return bench.dmaBufs
  }
}
