import DmaBuf
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Fences of buffers that a device accesses.
enum WorkChecks {
  static let all: [DmaBufCheck] = idleness + syncFiles + imports + access

  private static let idleness: [DmaBufCheck] = [
    DmaBufCheck("a dma-buf that a device writes is idle for no access until the work ends") {
      bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: true)
      for access in BufferAccess.allCases {
        try expect(try !buffer.isIdle(for: access), "it is idle for \(access)")
      }
      try worker.end(work)
      for access in BufferAccess.allCases {
        try expect(try buffer.isIdle(for: access), "it is not idle for \(access)")
      }
    },

    DmaBufCheck("a dma-buf that a device reads is idle for readers, not for writers") { bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: false)
      try expect(try buffer.isIdle(for: .read), "it is not idle for reading")
      try expect(try !buffer.isIdle(for: .write), "it is idle for writing")
      try expect(try !buffer.isIdle(for: .readWrite), "it is idle for both")
      try worker.end(work)
      try expect(try buffer.isIdle(for: .write), "it is not idle for writing")
    },

    DmaBufCheck("waiting for an idle dma-buf ends at the time limit, or with the work") { bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: true)
      let inVain = try duration {
        try expect(
          try !buffer.waitUntilIdle(for: .read, milliseconds: moment), "it is idle at once")
      }
      try expect(inVain >= .milliseconds(moment), "the wait takes only \(inVain)")
      try worker.end(work, after: moment)
      let waited = try duration {
        try expect(
          try buffer.waitUntilIdle(for: .read, milliseconds: timeout), "it does not become idle")
      }
      try expect(waited < .milliseconds(timeout), "it takes \(waited)")
    },

    DmaBufCheck("the work of a device ends when the device is closed") { bench in
      let buffer: DmaBuf
      do {
        let worker = try bench.makeWorker()
        buffer = try bench.buffer(of: worker)
        _ = try worker.begin(writing: true)
        try expect(try !buffer.isIdle(for: .read), "it is idle")
      }
      try expect(
        try buffer.waitUntilIdle(for: .write, milliseconds: timeout), "it does not become idle")
    },
  ]

  private static let syncFiles: [DmaBufCheck] = [
    DmaBufCheck("fences exported for reading wait for writers, those for writing for all work") {
      bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: false)
      try expect(
        try buffer.exportFences(before: .read).isSignalled(), "reading waits for readers")
      for access in [BufferAccess.write, .readWrite] {
        try expect(
          try !buffer.exportFences(before: access).isSignalled(), "\(access) waits for no work")
      }
      try worker.end(work)
      let writing = try worker.begin(writing: true)
      for access in BufferAccess.allCases {
        try expect(
          try !buffer.exportFences(before: access).isSignalled(), "\(access) waits for no work")
      }
      try worker.end(writing)
    },

    DmaBufCheck("a sync file is signalled when its work ends, and stays so when more work begins") {
      bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: true)
      let fences = try buffer.exportFences(before: .read)
      try expect(try !fences.isSignalled(), "it is signalled too early")
      try expect(!isReadable(fences.fileDescriptor, within: 0), "it is readable too early")
      let inVain = try duration {
        try expect(try !fences.wait(milliseconds: moment), "the wait succeeds too early")
      }
      try expect(inVain >= .milliseconds(moment), "the wait takes only \(inVain)")
      try worker.end(work, after: moment)
      try expect(try fences.wait(milliseconds: timeout), "it does not become signalled")
      try expect(isReadable(fences.fileDescriptor, within: 0), "it is not readable")
      let more = try worker.begin(writing: true)
      try expect(try fences.isSignalled(), "it is no longer signalled")
      try worker.end(more)
    },

    DmaBufCheck("a sync file reports the driver of the work, its state, and when it ended") {
      bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.buffer(of: worker)
      let work = try worker.begin(writing: true)
      let fences = try buffer.exportFences(before: .read)
      let pending = try fences.information()
      try expect("the status", pending.status, is: .pending)
      try expect("the drivers", pending.fences.map(\.driver), is: [worker.driver])
      try expect("the fences' status", pending.fences.map(\.status), is: [.pending])
      try expect("the time", pending.fences.map(\.nanoseconds), is: [0])
      try expect(pending.fences.first?.timeline.isEmpty == false, "its timeline has no name")
      let before = nanoseconds()
      try worker.end(work)
      let after = nanoseconds()
      let over = try fences.information()
      try expect("the status", over.status, is: .signalled)
      try expect("the fences' status", over.fences.map(\.status), is: [.signalled])
      try expect(
        over.fences.allSatisfy { (before...after).contains($0.nanoseconds) },
        "it ended at \(over.fences.map(\.nanoseconds)), and not between \(before) and \(after)")
    },

    DmaBufCheck("the first of several sync files that is signalled ends the wait for any") {
      bench in
      let one = try bench.makeWorker()
      let other = try bench.makeWorker()
      let work = try (one.begin(writing: true), other.begin(writing: true))
      let first = try bench.buffer(of: one).exportFences(before: .read)
      let second = try bench.buffer(of: other).exportFences(before: .read)
      let descriptors = [first.fileDescriptor, second.fileDescriptor]
      try expect(
        "which one is signalled",
        try SyncFile.waitForAny(of: descriptors, milliseconds: moment, dmaBufs: bench.dmaBufs),
        is: nil)
      try other.end(work.1, after: moment)
      try expect(
        "which one is signalled",
        try SyncFile.waitForAny(of: descriptors, milliseconds: timeout, dmaBufs: bench.dmaBufs),
        is: 1)
      try one.end(work.0)
      try expect(
        "which one is signalled",
        try SyncFile.waitForAny(of: descriptors, milliseconds: timeout, dmaBufs: bench.dmaBufs),
        is: 0)
    },

    DmaBufCheck("a merged sync file has the fences of both, and is signalled when both are") {
      bench in
      let one = try bench.makeWorker()
      let other = try bench.makeWorker()
      let work = try (one.begin(writing: true), other.begin(writing: true))
      let first = try bench.buffer(of: one).exportFences(before: .read)
      let second = try bench.buffer(of: other).exportFences(before: .read)
      let both = try first.merged(with: second, name: "both")
      let pending = try both.information()
      try expect("the name", pending.name, is: "both")
      try expect("the status", pending.status, is: .pending)
      try expect("the count of fences", pending.fences.count, is: 2)
      try one.end(work.0)
      try expect(try first.isSignalled(), "the first is not signalled")
      try expect(try !both.isSignalled(), "it is signalled with the first")
      try expect("the status", try both.information().status, is: .pending)
      try other.end(work.1)
      try expect(try both.isSignalled(), "it is not signalled with both")
      try expect("the status", try both.information().status, is: .signalled)
      try expect(try second.isSignalled(), "the second is not signalled")
    },
  ]

  private static let imports: [DmaBufCheck] = [
    DmaBufCheck("a fence imported for writing makes a dma-buf busy for every access") { bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.makeDmaBuf(pages: 1)
      for access in [BufferAccess.write, .readWrite] {
        let work = try worker.begin(writing: true)
        do {
          let fences = try bench.buffer(of: worker).exportFences(before: .read)
          try buffer.importFence(fences, as: access)
        }
        try expect(try !buffer.isIdle(for: .read), "it is idle for reading")
        try expect(try !buffer.isIdle(for: .write), "it is idle for writing")
        let copy = try buffer.exportFences(before: .read)
        try expect(try !copy.isSignalled(), "the exported fence is signalled")
        try worker.end(work)
        try expect(try buffer.isIdle(for: .readWrite), "it is not idle")
        try expect(try copy.isSignalled(), "the exported fence is not signalled")
      }
    },

    DmaBufCheck("a fence imported for reading makes a dma-buf busy for writers only") { bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.makeDmaBuf(pages: 1)
      let work = try worker.begin(writing: true)
      let fences = try bench.buffer(of: worker).exportFences(before: .read)
      try buffer.importFence(fences, as: .read)
      try expect(try buffer.isIdle(for: .read), "it is not idle for reading")
      try expect(try !buffer.isIdle(for: .write), "it is idle for writing")
      try worker.end(work)
      try expect(try buffer.isIdle(for: .write), "it is not idle for writing")
    },
  ]

  private static let access: [DmaBufCheck] = [
    DmaBufCheck("the processor waits until a device has finished writing") { bench in
      let worker = try bench.makeWorker()
      let written = try bench.buffer(of: worker)
      for access in BufferAccess.allCases {
        let work = try worker.begin(writing: true)
        try worker.end(work, after: moment)
        let waited = try duration { try written.withProcessorAccess(access) {} }
        try expect(try written.isIdle(for: .write), "\(access) does not wait: \(waited)")
        try expect(waited < .milliseconds(timeout), "\(access) takes \(waited)")
      }
    },

    DmaBufCheck("the processor waits for a fence imported into a dma-buf of a memory file") {
      bench in
      let worker = try bench.makeWorker()
      let buffer = try bench.makeDmaBuf(pages: 1)
      let work = try worker.begin(writing: true)
      try buffer.importFence(
        try bench.buffer(of: worker).exportFences(before: .read), as: .write)
      try worker.end(work, after: moment)
      try buffer.withProcessorAccess(.read) {}
      try expect(try buffer.isIdle(for: .write), "it does not wait")
    },

    DmaBufCheck("the processor waits for a device that reads only before it writes") { bench in
      let worker = try bench.makeWorker()
      let read = try bench.buffer(of: worker)
      let work = try worker.begin(writing: false)
      try read.withProcessorAccess(.read) {}
      try expect(try !read.isIdle(for: .write), "reading waits for readers")
      try worker.end(work, after: moment)
      try read.withProcessorAccess(.write) {}
      try expect(try read.isIdle(for: .write), "writing does not wait for readers")
    },
  ]

  /// The kernel's monotonic clock.
  private static func nanoseconds() -> UInt64 {
    var time = timespec()
    // SAFETY: the call fills in one value.
    unsafe _ = clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
