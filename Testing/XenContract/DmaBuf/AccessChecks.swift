import CZcopy
import DmaBuf
import SystemPackage

enum AccessChecks {
  static let all: [DmaBufCheck] = [
    DmaBufCheck("the processor may begin any access to a dma-buf, also within another access") {
      bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      for outer in BufferAccess.allCases {
        for inner in BufferAccess.allCases {
          let result = try buffer.withProcessorAccess(outer) {
            try buffer.withProcessorAccess(inner) { 5 }
          }
          try expect("the result", result, is: 5)
        }
      }
    },

    DmaBufCheck("an access ends when its closure throws an error") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      do {
        try buffer.withProcessorAccess(.write) { throw Errno.noSpace }
        throw Failure(reason: "it does not fail")
      } catch Errno.noSpace {}
      try buffer.withProcessorAccess(.readWrite) {}
    },

    DmaBufCheck("access to a file that is not a dma-buf is ENOTTY") { bench in
      let file = try bench.makeFile(pages: 1)
      let none = try bench.dmaBufs.adopt(try OwnedDescriptor(duplicating: file.fileDescriptor))
      for access in BufferAccess.allCases {
        try expectErrno(.inappropriateIOCTLForDevice, of: "access") {
          try none.withProcessorAccess(access) {}
        }
      }
    },

    DmaBufCheck("access for neither reading nor writing is EINVAL") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      guard bench.isKernel else { throw Skip(reason: "only a kernel can be asked that") }
      for ends in [0, 1] as [Int32] {
        try expect(
          "the result", czcopy_dmabuf_sync(buffer.fileDescriptor.rawValue, 0, 0, ends),
          is: -Errno.invalidArgument.rawValue)
      }
    },

    DmaBufCheck("the first end without a begin is EINVAL for a memory file, no error for a heap") {
      bench in
      // Seen on Linux 6.12: udmabuf maps its pages at the first start of an access. An end without
      // that mapping fails.
      let udmabuf = try bench.makeDmaBuf(pages: 1)
      guard bench.isKernel else { throw Skip(reason: "only a kernel can be asked that") }
      try expect(
        "a memory file's", end(udmabuf), is: -Errno.invalidArgument.rawValue)
      try udmabuf.withProcessorAccess(.read) {}
      try expect("the next one", end(udmabuf), is: 0)
      if bench.dmaBufs.heaps.contains("system") {
        let heap = try bench.dmaBufs.allocate(byteCount: pageSize, fromHeap: "system")
        try expect("a heap's", end(heap), is: 0)
      }
    },
  ]

  /// Ends an access to read and write, even if none has begun.
  private static func end(_ buffer: borrowing DmaBuf) -> Int32 {
    czcopy_dmabuf_sync(buffer.fileDescriptor.rawValue, 1, 1, 1)
  }
}
