import DmaBuf
import SystemPackage

/// Fences of buffers that no device accesses.
enum FenceChecks {
  static let all: [DmaBufCheck] = [
    DmaBufCheck("a new dma-buf is idle for every access") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      for access in BufferAccess.allCases {
        try expect(try buffer.isIdle(for: access), "it is not idle for \(access)")
        try expect(
          try buffer.waitUntilIdle(for: access, milliseconds: -1), "waiting for it fails")
      }
    },

    DmaBufCheck("a fence exported from an idle dma-buf is already signalled") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      for access in BufferAccess.allCases {
        let fences = try buffer.exportFences(before: access)
        try expect(try fences.isSignalled(), "it is not signalled")
        try expect(isReadable(fences.fileDescriptor, within: 0), "it is not readable")
        try expect(try fences.wait(milliseconds: -1), "waiting for it fails")
        try expect("the status", try fences.information().status, is: .signalled)
        try expect(
          try fences.information().fences.allSatisfy { $0.status == .signalled },
          "one of its fences is not signalled")
        try expect(
          "which of it is signalled",
          try SyncFile.waitForAny(
            of: [fences.fileDescriptor], milliseconds: -1, dmaBufs: bench.dmaBufs), is: 0)
      }
    },

    DmaBufCheck("two signalled sync files merge into a signalled one, with the name given to it") {
      bench in
      let one = try bench.makeDmaBuf(pages: 1).exportFences(before: .read)
      let other = try bench.makeDmaBuf(pages: 1).exportFences(before: .write)
      let name = String(repeating: "n", count: 40)
      let both = try one.merged(with: other, name: name)
      try expect(try both.isSignalled(), "it is not signalled")
      let information = try both.information()
      try expect("the name", information.name, is: String(name.prefix(31)))
      try expect("the status", information.status, is: .signalled)
    },

    DmaBufCheck("a signalled fence can be imported, and leaves the dma-buf idle") { bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      let fences = try buffer.exportFences(before: .write)
      for access in BufferAccess.allCases {
        try buffer.importFence(fences, as: access)
        try expect(try buffer.isIdle(for: .readWrite), "it is not idle")
      }
    },

    DmaBufCheck("a file that is not a sync file: import is EINVAL, merge ENOENT, query ENOTTY") {
      bench in
      let buffer = try bench.makeDmaBuf(pages: 1)
      let fences = try buffer.exportFences(before: .write)
      let none = SyncFile(
        adopting: try OwnedDescriptor(duplicating: buffer.fileDescriptor), dmaBufs: bench.dmaBufs)
      try expectErrno(.invalidArgument, of: "importing a dma-buf") {
        try buffer.importFence(none, as: .write)
      }
      try expectErrno(.noSuchFileOrDirectory, of: "merging with a dma-buf") {
        try fences.merged(with: none, name: "x")
      }
      try expectErrno(.inappropriateIOCTLForDevice, of: "merging a dma-buf") {
        try none.merged(with: fences, name: "x")
      }
      try expectErrno(.inappropriateIOCTLForDevice, of: "information on a dma-buf") {
        try none.information()
      }
    },

    DmaBufCheck("the fences of a file that is not a dma-buf are ENOTTY") { bench in
      let file = try bench.makeFile(pages: 1)
      let none = try bench.dmaBufs.adopt(try OwnedDescriptor(duplicating: file.fileDescriptor))
      let fences = try bench.makeDmaBuf(pages: 1).exportFences(before: .write)
      try expectErrno(.inappropriateIOCTLForDevice, of: "exporting") {
        try none.exportFences(before: .read)
      }
      try expectErrno(.inappropriateIOCTLForDevice, of: "importing") {
        try none.importFence(fences, as: .write)
      }
    },
  ]
}
