import CContract
import DmaBuf
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

enum UdmabufChecks {
  static let all: [DmaBufCheck] = contents + identities + refusals

  private static let contents: [DmaBufCheck] = [
    DmaBufCheck("a dma-buf of a memory file is its memory, in both directions") { bench in
      let file = try bench.makeFile(pages: 3)
      let buffer = try bench.dmaBufs.makeDmaBuf(of: file)
      let ours = try file.map(writable: true)
      let devices = try buffer.map(writable: true)
      try expect("the size", buffer.byteCount, is: 3 * pageSize)
      for page in 0..<3 {
        try expect("page \(page)", devices.memory.loadWord(at: page * pageSize), is: word(page))
      }
      try buffer.withProcessorAccess(.write) {
        devices.memory.storeWord(77, at: 3 * pageSize - 4)
      }
      try expect("the file's word", ours.memory.loadWord(at: 3 * pageSize - 4), is: 77)
      ours.memory.storeWord(78, at: pageSize)
      try buffer.withProcessorAccess(.read) {
        try expect("the dma-buf's word", devices.memory.loadWord(at: pageSize), is: 78)
      }
    },

    DmaBufCheck("a dma-buf has its pieces in the given order, also from several files") { bench in
      let first = try bench.makeFile(pages: 4)
      let second = try bench.makeFile(pages: 2, firstWord: 10)
      let buffer = try bench.dmaBufs.makeDmaBuf(of: [
        first.piece(3, pages: 1), second.piece(0, pages: 2), first.piece(1, pages: 2),
      ])
      try expect("the size", buffer.byteCount, is: 5 * pageSize)
      let mapping = try buffer.map(writable: true)
      for (page, expected) in [3, 10, 11, 1, 2].enumerated() {
        try expect(
          "page \(page)", mapping.memory.loadWord(at: page * pageSize), is: word(expected))
        mapping.memory.storeWord(word(20 + page), at: page * pageSize)
      }
      let firstMapping = try first.map(writable: false)
      let secondMapping = try second.map(writable: false)
      for (page, expected) in [(0, 0), (1, 23), (2, 24), (3, 20)] {
        try expect(
          "the first file's page \(page)", firstMapping.memory.loadWord(at: page * pageSize),
          is: word(expected))
      }
      try expect(
        "the second file's page 1", secondMapping.memory.loadWord(at: pageSize), is: word(22))
    },

    DmaBufCheck("a piece may be in a dma-buf twice, and in two dma-bufs") { bench in
      let file = try bench.makeFile(pages: 1)
      let twice = try bench.dmaBufs.makeDmaBuf(of: [
        file.piece(0, pages: 1), file.piece(0, pages: 1),
      ])
      let once = try bench.dmaBufs.makeDmaBuf(of: file)
      let mapping = try twice.map(writable: true)
      mapping.memory.storeWord(5, at: pageSize + 8)
      try expect("the first copy's word", mapping.memory.loadWord(at: 8), is: 5)
      let other = try once.map(writable: false)
      try expect("the other dma-buf's word", other.memory.loadWord(at: 8), is: 5)
    },

    DmaBufCheck("a dma-buf outlives its memory file, and a mapping both") { bench in
      let mapping: LocalMapping
      do {
        let buffer = try bench.makeDmaBuf(pages: 2)
        mapping = try buffer.map(writable: true)
      }
      try expect("page 1", mapping.memory.loadWord(at: pageSize), is: word(1))
    },

    DmaBufCheck("a dma-buf may be as large as udmabuf's limit, and no page larger") { bench in
      guard let limit = bench.dmaBufs.udmabufLimit else { throw Skip(reason: "no limit is known") }
      guard limit <= 64 << 20 else { throw Skip(reason: "the limit is \(limit) bytes") }
      let file = try bench.makeFile(pages: limit / pageSize + 1)
      try expectErrno(.invalidArgument, of: "\(limit + pageSize) bytes") {
        try bench.dmaBufs.makeDmaBuf(of: file)
      }
      try expectErrno(.invalidArgument, of: "the same in two pieces") {
        try bench.dmaBufs.makeDmaBuf(of: [
          file.piece(0, pages: limit / pageSize), file.piece(0, pages: 1),
        ])
      }
      let buffer = try bench.dmaBufs.makeDmaBuf(of: [file.piece(1, pages: limit / pageSize)])
      try expect("the size", buffer.byteCount, is: limit)
    },
  ]

  private static let identities: [DmaBufCheck] = [
    DmaBufCheck("each dma-buf has an inode of its own, which its duplicates share") { bench in
      let file = try bench.makeFile(pages: 1)
      let one = try bench.dmaBufs.makeDmaBuf(of: file)
      let other = try bench.dmaBufs.makeDmaBuf(of: file)
      let copy = try bench.dmaBufs.adopt(try OwnedDescriptor(duplicating: one.fileDescriptor))
      try expect(one.inode != 0, "the inode is 0")
      try expect(one.inode != other.inode, "two dma-bufs have one inode")
      try expect("the copy's inode", copy.inode, is: one.inode)
      try expect("the copy's size", copy.byteCount, is: pageSize)
    },

    DmaBufCheck("memory files, dma-bufs and sync files are closed on exec") { bench in
      let file = try bench.makeFile(pages: 1)
      let one = try bench.dmaBufs.makeDmaBuf(of: file)
      let several = try bench.dmaBufs.makeDmaBuf(of: [
        file.piece(0, pages: 1), file.piece(0, pages: 1),
      ])
      let fences = try one.exportFences(before: .write)
      let merged = try fences.merged(with: fences, name: "both")
      for descriptor in [
        file.fileDescriptor, one.fileDescriptor, several.fileDescriptor, fences.fileDescriptor,
        merged.fileDescriptor,
      ] {
        try expect(
          HandleChecks.isClosedOnExec(descriptor.rawValue),
          "a child would inherit descriptor \(descriptor.rawValue)")
      }
    },

    DmaBufCheck("a dma-buf has the name that was set last, cut to the kernel's limit") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      guard bench.isKernel else { return try buffer.setName("screen") }
      let descriptor = buffer.fileDescriptor.rawValue
      for (name, kept) in [
        ("screen", "screen"), ("", ""), (String(repeating: "é", count: 20), "ééééééééééééééé"),
      ] {
        try buffer.setName(name)
        try expect(
          "the file's name", Files.target(of: "/proc/self/fd/\(descriptor)"),
          is: "/dmabuf:\(kept)")
      }
    },

    DmaBufCheck("naming a file that is not a dma-buf is ENOTTY") { bench in
      let file = try bench.makeFile(pages: 1)
      let none = try bench.dmaBufs.adopt(try OwnedDescriptor(duplicating: file.fileDescriptor))
      try expectErrno(.inappropriateIOCTLForDevice, of: "a name") { try none.setName("x") }
    },
  ]

  private static let refusals: [DmaBufCheck] = [
    DmaBufCheck("pieces that are not whole pages of the file are EINVAL") { bench in
      let file = try bench.makeFile(pages: 2)
      let descriptor = file.fileDescriptor.rawValue
      for (offset, byteCount) in [
        (0, 0), (1, pageSize), (0, pageSize - 1), (0, pageSize + 1), (0, 3 * pageSize),
        (pageSize, 2 * pageSize), (2 * pageSize, pageSize), (1 << 40, pageSize),
        (-pageSize, pageSize),
        (0, -pageSize),
      ] {
        let piece = MemoryFilePiece(descriptor: descriptor, offset: offset, byteCount: byteCount)
        try expectErrno(.invalidArgument, of: "\(byteCount) bytes at \(offset) of two pages") {
          try bench.dmaBufs.makeDmaBuf(of: [piece])
        }
        guard byteCount != 0 else { continue }
        try expectErrno(.invalidArgument, of: "and behind a good one") {
          try bench.dmaBufs.makeDmaBuf(of: [file.piece(0, pages: 1), piece])
        }
      }
    },

    DmaBufCheck("no pieces, or more than 1024, are EINVAL") { bench in
      let file = try bench.makeFile(pages: 1)
      try expectErrno(.invalidArgument, of: "no piece") { try bench.dmaBufs.makeDmaBuf(of: []) }
      let pieces = Array(repeating: file.piece(0, pages: 1), count: 1025)
      try expectErrno(.invalidArgument, of: "1025 pieces") {
        try bench.dmaBufs.makeDmaBuf(of: pieces)
      }
      let buffer = try bench.dmaBufs.makeDmaBuf(of: Array(pieces.dropLast()))
      try expect("the size of 1024 pieces", buffer.byteCount, is: 1024 * pageSize)
    },

    DmaBufCheck("a file that could shrink or lose its writers is EINVAL") { bench in
      _ = try bench.makeFile(pages: 1)
      // Seals: F_SEAL_SHRINK 2, F_SEAL_WRITE 8, F_SEAL_FUTURE_WRITE 16.
      for seals in [0, 2 | 8, 2 | 16] as [Int32] {
        let number = contract_memfd(UInt64(pageSize), seals)
        guard number >= 0 else { throw Errno(rawValue: -number) }
        let file = FileDescriptor(rawValue: number)
        defer { try? file.close() }
        let piece = MemoryFilePiece(descriptor: file.rawValue, offset: 0, byteCount: pageSize)
        try expectErrno(.invalidArgument, of: "a file with the seals \(seals)") {
          try bench.dmaBufs.makeDmaBuf(of: [piece])
        }
      }
    },

    DmaBufCheck("a file that is not a memory file is EBADFD") { bench in
      let file = try bench.makeFile(pages: 1)
      let buffer = try bench.dmaBufs.makeDmaBuf(of: file)
      for descriptor in [buffer.fileDescriptor.rawValue, Absent.descriptor, -1] {
        let piece = MemoryFilePiece(descriptor: descriptor, offset: 0, byteCount: pageSize)
        try expectErrno(Errno(rawValue: EBADFD), of: "a piece of descriptor \(descriptor)") {
          try bench.dmaBufs.makeDmaBuf(of: [piece])
        }
      }
    },
  ]
}
