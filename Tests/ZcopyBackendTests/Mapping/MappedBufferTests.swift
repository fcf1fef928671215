import DmaBuf
import Glibc
import Pixels
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A mapped buffer")
struct MappedBufferTests {
  @Test("is a dma-buf of the owner's own pages")
  func contents() throws {
    let stage = try Stage()
    let buffer = try stage.share(byteCount: 2 * 4096 + 5)
    buffer.write([1, 2, 3, 4], at: 4094)
    let mapped = try stage.map(buffer)
    let file = try mapped.requireFile()
    let inode = mapped.inode
    #expect(mapped.mechanism == .dmabuf)
    #expect(mapped.passedOver.isEmpty == true)
    #expect(try stage.machine.bytes(ofDmaBuf: file).count == 3 * 4096)
    #expect(try #require(inode) != 0)
    let references = mapped.references
    #expect(references == buffer.references)
    #expect(try stage.machine.bytes(ofDmaBuf: file)[4093...4098] == [0, 1, 2, 3, 4, 0])
    // It is not a copy: the owner sees a device's writes, and the device sees the owner's later
    // writes.
    try stage.machine.write([9, 8], toDmaBuf: file, at: 8191)
    #expect(buffer.bytes(8190..<8194) == [0, 9, 8, 0])
    buffer.write([77], at: 0)
    #expect(try stage.machine.bytes(ofDmaBuf: file)[0] == 77)
  }

  @Test("shows the owner's bytes to the processor until the mapping ends, which delays the release")
  func mapContents() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 3)
    let mapped = try stage.map(buffer)
    let contents = try mapped.mapContents()
    buffer.write([5, 6, 7], at: 4095)
    #expect(contents.bytes(4094..<4099) == [0, 5, 6, 7, 0])
    let releasing = mapped.close()
    #expect(try !releasing.isReleased())
    buffer.write([8], at: 4095)
    #expect(contents.bytes(4095..<4096) == [8])
    #expect(stage.backend.census.activeMaps == 3)
    _ = consume contents
    #expect(stage.backend.census.activeMaps == 0)
    #expect(try releasing.isReleased())
  }

  @Test("ends with its value: no map, handle, dma-buf or descriptor is left")
  func end() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 5)
    let mapped = try stage.map(buffer)
    #expect(stage.backend.census.activeMaps == 5)
    #expect(stage.backend.census.dmaBufs == 1)
    _ = consume mapped
    #expect(stage.backend.census(expecting: before) == before)
    #expect(stage.machine.liveDmaBufs == 0)
  }

  @Test("is released when its last descriptor is closed, and not before")
  func release() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 2)
    let mapped = try stage.map(buffer)
    let copy = try mapped.requireFile().duplicateClosedOnExec()
    let releasing = mapped.close()
    #expect(releasing.domain == stage.guest.id)
    #expect(try !releasing.isReleased())
    #expect(try !releasing.isReleased())
    #expect(stage.backend.census.activeMaps == 2)
    try copy.close()
    #expect(try releasing.isReleased())
    // It stays released.
    #expect(try releasing.isReleased())
    #expect(stage.backend.census.activeMaps == 0)
    _ = consume releasing
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is not mistaken for another that gets its descriptor number")
  func numberUsedAgain() throws {
    let stage = try Stage()
    let first = try stage.share(pages: 1)
    let second = try stage.share(pages: 1)
    let mapped = try stage.map(first)
    let releasing = mapped.close()
    // Other tests run in this process: the number may be this one's or not, which must not matter.
    let again = try stage.map(second)
    #expect(try releasing.isReleased())
    #expect(stage.backend.census.dmaBufs == 1)
    _ = consume again
  }

  @Test("reports an error when the kernel refuses the query for its release")
  func releaseUnknown() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let number = try mapped.requireFile().rawValue
    let releasing = mapped.close()
    stage.machine.fail(.waitReleased, with: .ioError)
    let refusal = error { () throws(MapError) in _ = try releasing.isReleased() }
    #expect(refusal == .xen(XenError(.waitReleased, .ioError, subject: .fileDescriptor(number))))
  }

  @Test("keeps the pages when the owner withdraws them, until it is closed")
  func ownerWithdraws() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let buffer = try stage.share(pages: 2)
    buffer.write([42], at: 0)
    let mapped = try stage.map(buffer)
    let contents = try mapped.mapContents()
    _ = consume buffer
    #expect(stage.guest.census.deferredPages == 2)
    #expect(contents.bytes(0..<1) == [42])
    _ = consume contents
    let releasing = mapped.close()
    #expect(try releasing.isReleased())
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("outlives its owner's domain, and is released as usual")
  func ownerDestroyed() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 2)
    buffer.write([42], at: 4096)
    let request = stage.request(for: buffer)
    let mapped = try stage.map(request)
    let contents = try mapped.mapContents()
    stage.guest.destroy()
    #expect(contents.bytes(4096..<4097) == [42])
    _ = consume contents
    let releasing = mapped.close()
    #expect(try releasing.isReleased())
    _ = consume releasing
    // XenStore nodes went with the guest.
    let after = stage.backend.census
    #expect(after.activeMaps == before.activeMaps)
    #expect(after.openHandles == before.openHandles)
    #expect(after.dmaBufs == before.dmaBufs)
    let again = stage.refusal(request)
    let unreadable = XenError(
      .copy, .ioError, domain: stage.guest.id, subject: .reference(request.directory),
      status: .badDomain)
    #expect(again == .directory(.unreadable(unreadable), stage.guest.id))
  }

  @Test("is refused without a call to Xen if its request contradicts itself")
  func badRequests() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    var request = stage.request(for: buffer)
    stage.machine.resetCalls()
    request.offset = 4096
    #expect(stage.refusal(request) == .offsetBeyondSize(offset: 4096, size: 4096))
    request.offset = 0
    request.geometry = try PictureGeometry(width: 32, height: 33)
    #expect(
      stage.refusal(request)
        == .geometry(
          .doesNotFit(try PictureGeometry(width: 32, height: 33), offset: 0, size: 4096)))
    request.geometry = nil
    request.byteCount = 0
    #expect(stage.refusal(request) == .directory(.emptyBuffer, stage.guest.id))
    request.byteCount = -4096
    #expect(stage.refusal(request) == .directory(.emptyBuffer, stage.guest.id))
    #expect(stage.machine.calls.total == 0)
  }

  @Test("is refused above the limits, and nothing stays behind")
  func caps() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 3)
    let request = stage.request(for: buffer)
    #expect(
      stage.refusal(request, limits: BufferLimits(bytesPerBuffer: 12287))
        == .directory(.tooLarge(byteCount: 12288, limit: 12287), stage.guest.id))
    #expect(
      stage.refusal(request, limits: BufferLimits(pagesPerRequest: 2))
        == .directory(.tooManyPages(pages: 3, limit: 2), stage.guest.id))
    #expect(
      stage.refusal(request, limits: BufferLimits(bytesPerBuffer: 12288)) == nil)
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused above gntdev's own limit, if that is lower than the assumed one")
  func aboveDeviceLimit() throws {
    let stage = try Stage(gntdevLimit: 2)
    let before = stage.backend.census
    let buffer = try stage.share(pages: 3)
    let refused = stage.refusal(stage.request(for: buffer))
    let cause = XenError(
      .exportDmaBuf, .invalidArgument, domain: stage.guest.id, subject: .references(count: 3))
    #expect(refused == .refused(cause, .usable))
    #expect("\(refused.map(String.init(describing:)) ?? "")".contains("gntdev's limit"))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused for a directory of another size, and nothing stays behind")
  func wrongSize() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 3)
    var request = stage.request(for: buffer)
    request.byteCount = 4 * 4096
    #expect(
      stage.refusal(request)
        == .directory(.tooShort(references: 3, pages: 4), stage.guest.id))
    request.byteCount = 2 * 4096
    let third = buffer.references[2]
    #expect(
      stage.refusal(request)
        == .directory(.extraReference(third, pages: 2), stage.guest.id))
    request.directory = GrantReference(rawValue: 0)
    #expect(stage.refusal(request) == .directory(.noDirectory, stage.guest.id))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused if one page is not granted writable, and nothing stays mapped")
  func readOnlyPage() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let allocator = try stage.guest.xen.openGrantAllocator()
    let good = try allocator.share(pages: 3, with: stage.backend.id, writable: true)
    let bad = try allocator.share(pages: 1, with: stage.backend.id, writable: false)
    let list = good.references[1...] + bad.references
    good.write([0] + list.map(\.rawValue), toPage: 0)
    let request = MapParameters(
      domain: stage.guest.id, directory: good.references[0], byteCount: 3 * 4096)
    let refused = stage.refusal(request)
    let cause = XenError(
      .exportDmaBuf, .invalidArgument, domain: stage.guest.id, subject: .references(count: 3))
    #expect(refused == .refused(cause, .usable))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test(
    "reports which call failed, and leaves nothing behind",
    arguments: [
      (.openGrantDevice, .noSuchFileOrDirectory), (.openGrantDevice, .permissionDenied),
      (.copy, .ioError), (.exportDmaBuf, .noMemory), (.exportDmaBuf, .interrupted),
      (.exportDmaBuf, .tooManyOpenFiles),
    ] as [(XenError.Call, Errno)])
  func failures(call: XenError.Call, errno: Errno) throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 1100)
    // The second directory page fails, not only the first.
    stage.machine.fail(call, with: errno, after: call == .copy ? 1 : 0)
    let refused = stage.refusal(stage.request(for: buffer))
    let cause: XenError? =
      switch refused {
      case .xen(let error), .refused(let error, .usable), .directory(.unreadable(let error), _):
        error
      default: nil
      }
    #expect(cause?.call == call)
    #expect(cause?.errno == errno)
    #expect(stage.backend.census(expecting: before) == before)
    #expect(stage.machine.liveDmaBufs == 0)
    #expect(stage.refusal(stage.request(for: buffer)) == nil)
  }

  @Test("reports a failed mapping of the contents, and stays as it is")
  func contentsRefused() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let before = stage.backend.census
    stage.machine.fail(.map, with: .noMemory)
    let refusal = error { () throws(MapError) in _ = try mapped.mapContents() }
    #expect(
      refusal
        == .xen(
          XenError(.map, .noMemory, domain: stage.guest.id, subject: .references(count: 1))))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused by a kernel without dma-buf support, with advice")
  func notBuilt() throws {
    let stage = try Stage(hasDmaBuf: false)
    let before = stage.backend.census
    let buffer = try stage.share(pages: 1)
    let refused = stage.refusal(stage.request(for: buffer))
    let cause = XenError(
      .exportDmaBuf, .inappropriateIOCTLForDevice, domain: stage.guest.id,
      subject: .references(count: 1))
    #expect(refused == .refused(cause, .notBuilt))
    let text = refused?.description ?? ""
    #expect(text.contains("domain 1") && text.contains("CONFIG_XEN_GNTDEV_DMABUF"))
    #expect(text.contains("kernel/README.md"))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused in a PV domain, with advice")
  func pv() throws {
    let stage = try Stage(kind: .pv)
    let before = stage.backend.census
    let buffer = try stage.share(pages: 1)
    let refused = stage.refusal(stage.request(for: buffer))
    let cause = XenError(
      .exportDmaBuf, .invalidArgument, domain: stage.guest.id, subject: .references(count: 1))
    #expect(refused == .refused(cause, .refusedInPVDomain))
    let text = refused?.description ?? ""
    #expect(text.contains("domain 1") && text.contains("PV domain") && text.contains("PVH"))
    #expect(stage.backend.census(expecting: before) == before)
  }
}
