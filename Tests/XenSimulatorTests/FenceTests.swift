import DmaBuf
import Support
import SystemPackage
import Testing
import XenSimulator
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Simulated fences")
struct FenceTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain

  init() throws { dom0 = try machine.addDomain() }

  private func makeDmaBuf() throws -> DmaBuf {
    try dom0.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
  }

  /// Signals a fence after a moment, on its own thread, since tasks may have to wait for blocking
  /// tests.
  private func signalSoon(_ fence: SimulatedFence) throws {
    try TestThread {
      usleep(20_000)
      fence.signal()
    }
  }

  @Test("A reader waits for writers, and a writer waits for readers and writers")
  func whoWaits() throws {
    let dmaBuf = try makeDmaBuf()
    #expect(try dmaBuf.isIdle(for: .readWrite))
    let reader = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .read)
    #expect(try dmaBuf.isIdle(for: .read))
    #expect(try !dmaBuf.isIdle(for: .write))
    let writer = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write)
    #expect(try !dmaBuf.isIdle(for: .read))
    reader.signal()
    writer.signal(error: .ioError)
    #expect(try dmaBuf.isIdle(for: .readWrite))
  }

  @Test("A wait ends after its time limit, or earlier with the fence")
  func waits() throws {
    let dmaBuf = try makeDmaBuf()
    let fence = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write)
    let clock = BootClock()
    var start = clock.now
    #expect(try !dmaBuf.waitUntilIdle(for: .read, milliseconds: 30))
    #expect(clock.now - start >= .milliseconds(29))
    start = clock.now
    try signalSoon(fence)
    #expect(try dmaBuf.waitUntilIdle(for: .read, milliseconds: 10_000))
    #expect(clock.now - start < .seconds(8))
  }

  @Test("The start of a processor access waits for devices, its end does not")
  func access() throws {
    let dmaBuf = try makeDmaBuf()
    let reader = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .read)
    #expect(try dmaBuf.withProcessorAccess(.read) { true })
    try signalSoon(reader)
    #expect(
      try dmaBuf.withProcessorAccess(.write) {
        _ = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write)
        return true
      })
    #expect(dom0.census.syncFiles == 0)
  }

  @Test(
    "A sync file is a snapshot, and its descriptor is readable once all its fences are signalled")
  func snapshot() throws {
    let dmaBuf = try makeDmaBuf()
    let idle = try dmaBuf.exportFences(before: .write)
    #expect(try idle.isSignalled())
    #expect(try idle.information().status == .signalled)
    let fences = [
      try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .read),
      try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write),
    ]
    let forReading = try dmaBuf.exportFences(before: .read)
    let forWriting = try dmaBuf.exportFences(before: .write)
    let later = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write)
    #expect(try forWriting.information().fences.map(\.status) == [.pending, .pending])
    fences[1].signal(error: .timedOut)
    #expect(try forReading.isSignalled())
    #expect(try forReading.information().status == .failed(.timedOut))
    #expect(try !forWriting.isSignalled())
    fences[0].signal()
    #expect(try forWriting.wait(milliseconds: 0))
    #expect(try forWriting.information().fences.allSatisfy { $0.nanoseconds > 0 })
    #expect(try !dmaBuf.isIdle(for: .read))
    later.signal()
    #expect(dom0.census.syncFiles == 3)
  }

  @Test("Sync files are merged, and added to a dma-buf as readers or as writers")
  func merging() throws {
    let one = try makeDmaBuf()
    let other = try makeDmaBuf()
    let target = try makeDmaBuf()
    let first = try machine.addFence(toDmaBuf: one.fileDescriptor, as: .write)
    let second = try machine.addFence(toDmaBuf: other.fileDescriptor, as: .write)
    do {
      let merged = try one.exportFences(before: .read).merged(
        with: try other.exportFences(before: .read), name: "both")
      #expect(try merged.information().name == "both")
      #expect(try merged.information().fences.count == 2)
      try target.importFence(merged, as: .read)
      first.signal()
      #expect(try !merged.isSignalled())
    }
    #expect(dom0.census.syncFiles == 0)
    #expect(try target.isIdle(for: .read))
    #expect(try !target.isIdle(for: .write))
    second.signal()
    #expect(try target.isIdle(for: .write))
  }

  @Test("An invalid sync file or dma-buf is refused with Linux's errno")
  func refusals() throws {
    let platform = dom0.platform
    let dmaBuf = try makeDmaBuf()
    let file = try dom0.dmaBufs.makeMemoryFile(named: "neither", byteCount: 4096)
    let sync = try dmaBuf.exportFences(before: .read)
    let (number, fence) = (file.fileDescriptor.rawValue, sync.fileDescriptor.rawValue)
    let buffer = dmaBuf.fileDescriptor.rawValue
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      _ = try platform.exportSyncFile(of: number, for: .read)
    }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      try platform.synchronize(number, .read, ends: false)
    }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      try platform.importSyncFile(fence, into: number, as: .read)
    }
    #expect(throws: Errno.invalidArgument) {
      try platform.importSyncFile(number, into: buffer, as: .read)
    }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      _ = try platform.information(ofSyncFile: buffer)
    }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      _ = try platform.mergeSyncFiles(buffer, fence, name: "a")
    }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      _ = try platform.mergeSyncFiles(fence, buffer, name: "a")
    }
    #expect(throws: Errno.badFileDescriptor) {
      _ = try platform.exportSyncFile(of: 1_000_000, for: .read)
    }
  }

  @Test("Several files are polled together, dma-bufs among them")
  func polling() throws {
    let platform = dom0.platform
    let busy = try makeDmaBuf()
    let idle = try makeDmaBuf()
    let fence = try machine.addFence(toDmaBuf: busy.fileDescriptor, as: .read)
    let both = Int16(POLLIN | POLLOUT)
    let asked = [
      (busy.fileDescriptor.rawValue, both), (idle.fileDescriptor.rawValue, both),
      (Int32(1_000_000), both),
    ]
    #expect(try platform.poll(asked, milliseconds: -1) == [Int16(POLLIN), both, Int16(POLLNVAL)])
    fence.signal()
    #expect(try platform.poll([asked[0]], milliseconds: 0) == [both])
    #expect(try platform.poll([], milliseconds: 1) == [])
    #expect(dom0.census.syncFiles == 0)
  }
}
