import Support
import SystemPackage
import Testing
import ZcopyTestKit

@testable import DmaBuf

@Suite("Fences")
struct FenceTests {
  // --- Of a dma-buf ---

  // The write end of a pipe acts as a buffer that a device reads: it becomes writable when there is
  // room.
  @Test("of a dma-buf are queried by access: whether it is idle for reading and for writing")
  func idle() throws {
    let pipe = try Pipe()
    let reading = try DmaBuf(adopting: try pipe.fence())
    #expect(try !reading.isIdle(for: .read))
    try pipe.signal()
    #expect(try reading.isIdle(for: .read))
    let writing = try DmaBuf(adopting: try OwnedDescriptor(duplicating: pipe.writeEnd))
    #expect(try writing.isIdle(for: .write))
    #expect(try writing.isIdle(for: .readWrite))
  }

  @Test("of a dma-buf are waited for, up to a time limit")
  func wait() throws {
    let pipe = try Pipe()
    let buffer = try DmaBuf(adopting: try pipe.fence())
    let start = BootClock.now
    #expect(try !buffer.waitUntilIdle(for: .read, milliseconds: 20))
    #expect(BootClock.now - start >= .milliseconds(20))
    try pipe.signal()
    #expect(try buffer.waitUntilIdle(for: .read, milliseconds: -1))
  }

  @Test("that will never be signalled are an error, not idleness")
  func never() throws {
    let ends = try FileDescriptor.pipe()
    let buffer = try DmaBuf(adopting: OwnedDescriptor(ends.writeEnd))
    let number = buffer.fileDescriptor.rawValue
    try ends.readEnd.close()
    // POLLERR without POLLIN.
    #expect(
      refusal { () throws(DmaBufError) in try buffer.isIdle(for: .read) }
        == DmaBufError(.poll, .ioError, subject: .dmaBuf(number)))
  }

  @Test("are exported as a sync file")
  func export() throws {
    let pipe = try Pipe()
    let platform = ObservedPlatform(.init(exported: try pipe.fence().rawValue))
    let buffer = try DmaBuf(adopting: try pipe.fence(), dmaBufs: DmaBufSystem(platform))
    let fences = try buffer.exportFences(before: .write)
    #expect(try !fences.isSignalled())
    try pipe.signal()
    #expect(try fences.isSignalled())
  }

  @Test("are imported, and the caller keeps its sync file")
  func importing() throws {
    let pipe = try Pipe()
    let platform = ObservedPlatform()
    let buffer = try DmaBuf(adopting: try pipe.fence(), dmaBufs: DmaBufSystem(platform))
    let fence = SyncFile(adopting: try pipe.fence())
    try buffer.importFence(fence, as: .write)
    #expect(platform.imports == [fence.fileDescriptor.rawValue])
    #expect(try !fence.isSignalled())
  }

  @Test("of a file that is no dma-buf are an error")
  func noDmaBuf() throws {
    let pipe = try Pipe()
    let buffer = try DmaBuf(adopting: try pipe.fence())
    let fence = SyncFile(adopting: try pipe.fence())
    let numbers = (buffer.fileDescriptor.rawValue, fence.fileDescriptor.rawValue)
    #expect(
      refusal { () throws(DmaBufError) in try buffer.exportFences(before: .read) }
        == DmaBufError(
          .exportFences, .inappropriateIOCTLForDevice, subject: .dmaBuf(numbers.0)))
    #expect(
      refusal { () throws(DmaBufError) in try buffer.importFence(fence, as: .read) }
        == DmaBufError(
          .importFence, .inappropriateIOCTLForDevice,
          subject: .fence(syncFile: numbers.1, dmaBuf: numbers.0)))
  }
}

@Suite("A sync file")
struct SyncFileTests {
  @Test("is signalled once, and stays signalled")
  func signal() throws {
    let pipe = try Pipe()
    let file = SyncFile(adopting: try pipe.fence())
    #expect(try !file.isSignalled())
    #expect(try !file.wait(milliseconds: 1))
    try pipe.signal()
    #expect(try file.isSignalled())
    #expect(try file.wait(milliseconds: -1))
    #expect(try file.isSignalled())
  }

  @Test("closes its descriptor when it ends, and not when it is relinquished")
  func end() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let descriptor: FileDescriptor
    do {
      let file = SyncFile(adopting: OwnedDescriptor(ends.writeEnd))
      descriptor = file.relinquish().relinquish()
    }
    #expect(!isAbandoned(ends.readEnd))
    do {
      let file = SyncFile(adopting: OwnedDescriptor(descriptor))
      _ = consume file
    }
    #expect(isAbandoned(ends.readEnd))
  }

  @Test("that is not open is an error, not a signal")
  func closed() {
    let file = SyncFile(adopting: OwnedDescriptor(notOpen))
    #expect(
      refusal { () throws(DmaBufError) in try file.isSignalled() }
        == DmaBufError(.poll, .badFileDescriptor, subject: .syncFile(notOpen.rawValue)))
  }

  @Test("that is no sync file has no information and cannot be merged")
  func none() throws {
    let pipe = try Pipe()
    let file = SyncFile(adopting: try pipe.fence())
    let other = SyncFile(adopting: try pipe.fence())
    let numbers = [file.fileDescriptor.rawValue, other.fileDescriptor.rawValue]
    #expect(
      refusal { () throws(DmaBufError) in try file.information() }
        == DmaBufError(
          .fenceInformation, .inappropriateIOCTLForDevice, subject: .syncFile(numbers[0])))
    #expect(
      refusal { () throws(DmaBufError) in try file.merged(with: other, name: "both") }
        == DmaBufError(
          .mergeFences, .inappropriateIOCTLForDevice, subject: .syncFiles(numbers)))
  }

  @Test("returns the kernel's information")
  func information() throws {
    let pipe = try Pipe()
    let information = SyncFileInformation(
      name: "frame", status: .failed(.timedOut),
      fences: [
        .init(timeline: "crtc", driver: "vkms", status: .signalled, nanoseconds: 7),
        .init(timeline: "render", driver: "gpu", status: .failed(.timedOut), nanoseconds: 8),
      ])
    let dmaBufs = DmaBufSystem(ObservedPlatform(.init(information: information)))
    #expect(try SyncFile(adopting: try pipe.fence(), dmaBufs: dmaBufs).information() == information)
  }

  @Test("merges with another into a third, whose name has the kernel's maximum length")
  func merge() throws {
    let pipe = try Pipe()
    let merged = try pipe.fence().relinquish()
    let platform = ObservedPlatform(.init(merged: merged.rawValue))
    let one = SyncFile(adopting: try pipe.fence(), dmaBufs: DmaBufSystem(platform))
    let other = SyncFile(adopting: try pipe.fence(), dmaBufs: DmaBufSystem(platform))
    let both = try one.merged(with: other, name: String(repeating: "x", count: 40))
    #expect(both.fileDescriptor == merged)
    #expect(platform.names == [String(repeating: "x", count: 31)])
    #expect(try !one.isSignalled())
    #expect(try !other.isSignalled())
  }

  @Test("of several is waited for by the first that is signalled")
  func any() throws {
    let one = try Pipe()
    let two = try Pipe()
    let three = try Pipe()
    let descriptors = [one.readEnd, two.readEnd, three.readEnd]
    #expect(try SyncFile.waitForAny(of: descriptors, milliseconds: 0) == nil)
    try three.signal()
    #expect(try SyncFile.waitForAny(of: descriptors, milliseconds: -1) == 2)
    try two.signal()
    #expect(try SyncFile.waitForAny(of: descriptors, milliseconds: -1) == 1)
  }

  @Test("of none is not waited for at all")
  func noneOfMany() throws {
    #expect(try SyncFile.waitForAny(of: [], milliseconds: -1) == nil)
  }

  @Test("of several may not be one that is not open")
  func closedOfMany() throws {
    let pipe = try Pipe()
    let descriptors = [pipe.readEnd, notOpen]
    #expect(
      refusal { () throws(DmaBufError) in
        try SyncFile.waitForAny(of: descriptors, milliseconds: -1)
      }
        == DmaBufError(
          .poll, .badFileDescriptor, subject: .syncFiles(descriptors.map(\.rawValue))))
  }
}
