import DmaBuf
import Glibc
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

/// A domain that shares, and what can be shared there.
struct SharingKernel: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var kind = DomainKind.pvh
  var isDom0 = false
  var hasDmaBuf = true
  var hasUdmabuf = true
  var hasScatteredMemory = false
  var heaps = ["system"]
  /// What is chosen.
  let best: MemorySource
  /// Whether gntalloc, udmabuf, the system heap and a given dma-buf work; nil where it depends.
  let works: [Bool?]

  static let all = [
    SharingKernel(
      testDescription: "PVH guest", best: .heap("system"), works: [true, true, true, true]),
    SharingKernel(
      testDescription: "PVH dom0", isDom0: true, best: .heap("system"),
      works: [true, true, true, true]),
    SharingKernel(
      testDescription: "PVH guest without heaps", heaps: [], best: .udmabuf,
      works: [true, true, false, true]),
    SharingKernel(
      testDescription: "PVH guest with another heap", heaps: ["dmaBufs,cma"], best: .udmabuf,
      works: [true, true, false, true]),
    SharingKernel(
      testDescription: "PVH guest without heaps and udmabuf", hasUdmabuf: false, heaps: [],
      best: .gntalloc, works: [true, false, false, true]),
    SharingKernel(
      testDescription: "PV dom0", kind: .pv, isDom0: true, best: .udmabuf,
      works: [true, true, nil, nil]),
    SharingKernel(
      testDescription: "PV dom0 whose memory lies apart", kind: .pv, isDom0: true,
      hasScatteredMemory: true, best: .udmabuf, works: [true, true, nil, nil]),
    SharingKernel(
      testDescription: "PV dom0 without udmabuf", kind: .pv, isDom0: true, hasUdmabuf: false,
      best: .gntalloc, works: [true, false, nil, nil]),
    SharingKernel(
      testDescription: "PV guest", kind: .pv, best: .gntalloc,
      works: [true, false, false, false]),
    SharingKernel(
      testDescription: "stock kernel", hasDmaBuf: false, best: .gntalloc,
      works: [true, false, false, false]),
  ]

  /// The domain, and a peer that can map all that it may.
  func make() throws -> (machine: SimulatedMachine, owner: SimulatedDomain, peer: SimulatedDomain) {
    let machine = SimulatedMachine()
    func add(_ isOwner: Bool) throws(Errno) -> SimulatedDomain {
      guard isOwner else { return try machine.addDomain() }
      return try machine.addDomain(
        kind: kind, hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf, heaps: heaps,
        hasScatteredMemory: hasScatteredMemory)
    }
    let first = try add(isDom0)
    let second = try add(!isDom0)
    return isDom0 ? (machine, first, second) : (machine, second, first)
  }
}

@Suite("Memory to be shared")
struct MemorySourceTests {
  static let sources: [MemorySource] = [.gntalloc, .udmabuf, .heap("system")]

  @Test(
    "is chosen by what works, and the probe leaves nothing behind", arguments: SharingKernel.all)
  func best(kernel: SharingKernel) throws {
    let (_, owner, _) = try kernel.make()
    let before = owner.census
    #expect(MemorySource.automatic(xen: owner.xen, dmaBufs: owner.dmaBufs) == kernel.best)
    let support = SharingSupport(xen: owner.xen, dmaBufs: owner.dmaBufs)
    let file = MemorySource.fileDescriptor(.standardInput)
    #expect((Self.sources + [file]).map { support.works($0) } == kernel.works)
    #expect(owner.census(expecting: before) == before)
  }

  @Test(
    "is zeroed, the peer's too, and ends with its value, or is refused as predicted",
    arguments: SharingKernel.all, sources)
  func share(kernel: SharingKernel, source: MemorySource) throws {
    let (_, owner, peer) = try kernel.make()
    let before = owner.census
    let works = SharingSupport(xen: owner.xen, dmaBufs: owner.dmaBufs).works(source)
    let request = ShareParameters(peer: peer.id, byteCount: 20 * 4096 - 5, memory: source)
    do throws(ShareError) {
      let buffer = try SharedBuffer(request, xen: owner.xen, dmaBufs: owner.dmaBufs)
      #expect(works != false)
      #expect(kernel.hasScatteredMemory == false || source != .heap("system"))
      #expect(buffer.source == source)
      #expect(buffer.byteCount == 20 * 4096 - 5)
      #expect(buffer.references.count == 20)
      #expect(buffer.bytes() == [UInt8](repeating: 0, count: 20 * 4096))
      #expect((buffer.fileDescriptor == nil) == (source == .gntalloc))
      try checkPeer(buffer, owner, peer)
    } catch {
      #expect(works != true)
      switch error {
      case .noDmaBufs(peer.id, .pvGuest): #expect(kernel.kind == .pv && !kernel.isDom0)
      case .bounced: #expect(kernel.hasScatteredMemory)
      case .memory(let cause):
        #expect(cause.call == (source == .udmabuf ? .makeDmaBuf : .allocate))
        #expect(cause.errno == .noSuchFileOrDirectory)
      case .xen(let cause):
        #expect(cause.call == .importDmaBuf && cause.errno == .inappropriateIOCTLForDevice)
        #expect(!kernel.hasDmaBuf)
      default: Issue.record(error)
      }
    }
    #expect(owner.census(expecting: before) == before)
  }

  @Test("that a device uses is granted in a PV domain only when the device has finished")
  func busy() throws {
    let machine = SimulatedMachine()
    let owner = try machine.addDomain(kind: .pv, heaps: ["system"])
    let peer = try machine.addDomain()
    let dmaBuf = try owner.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
    let work = try machine.addFence(toDmaBuf: dmaBuf.fileDescriptor, as: .write)
    let request = ShareParameters(
      peer: peer.id, byteCount: 4096, memory: .fileDescriptor(dmaBuf.fileDescriptor))
    let before = owner.census
    #expect(throws: ShareError.busy) {
      _ = try SharedBuffer(request, xen: owner.xen, dmaBufs: owner.dmaBufs)
    }
    #expect(owner.census(expecting: before) == before)
    work.signal()
    _ = try SharedBuffer(request, xen: owner.xen, dmaBufs: owner.dmaBufs)
  }

  /// The peer sees what the owner writes, and the other way round.
  private func checkPeer(
    _ buffer: borrowing SharedBuffer, _ owner: SimulatedDomain, _ peer: SimulatedDomain
  ) throws(ShareError) {
    do {
      buffer.write(sample(5000), at: 4090)
      let mapped = try MappedBuffer(
        MapParameters(domain: owner.id, directory: buffer.directory, byteCount: buffer.byteCount),
        xen: peer.xen, dmaBufs: peer.dmaBufs)
      #expect(mapped.mechanism == .dmabuf)
      let contents = try mapped.mapContents(for: .readWrite)
      #expect(contents.bytes(0..<20 * 4096) == buffer.bytes())
      contents.write([1, 2, 3], at: 8191)
      #expect(buffer.bytes(8191..<8194) == [1, 2, 3])
    } catch {
      Issue.record(error)
    }
  }

  @Test(
    "of a dma-buf has what its devices write, and they see what the peer writes",
    arguments: [MemorySource.udmabuf, .heap("system")])
  func devices(source: MemorySource) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 2, from: source)
    let descriptor = buffer.fileDescriptor
    let file = try #require(descriptor)
    try stage.machine.write([1, 2, 3], toDmaBuf: file, at: 4095)
    let mapped = try stage.map(buffer)
    let contents = try mapped.mapContents(for: .readWrite)
    #expect(contents.bytes(4095..<4098) == [1, 2, 3])
    contents.write([9], at: 0)
    #expect(try stage.machine.bytes(ofDmaBuf: file)[0] == 9)
    #expect(stage.guest.census.importedDmaBufs == 1)
    #expect(stage.guest.census.localDmaBufs == 1)
  }

  @Test(
    "has names as on the command line",
    arguments: [
      ("gntalloc", .gntalloc), ("udmabuf", .udmabuf), ("heap:system", .heap("system")),
      ("heap:dmaBufs,cma", .heap("dmaBufs,cma")), ("fd:0", .fileDescriptor(.standardInput)),
      ("fd:2147483647", .fileDescriptor(FileDescriptor(rawValue: .max))),
    ] as [(String, MemorySource)])
  func names(name: String, source: MemorySource) {
    #expect(MemorySource(name) == source)
    #expect("\(source)" == name)
  }

  @Test(
    "has no other names",
    arguments: [
      "", "auto", "Gntalloc", "heap", "heap:", "heap:a/b", "heap:.", "heap:..", "heap:/", "fd",
      "fd:", "fd:-1", "fd:+1", "fd:1x", "fd: 1", "fd:2147483648", "udmabuf:", "system",
    ])
  func badNames(name: String) { #expect(MemorySource(name) == nil) }
}

@Suite("A dma-buf that is given to be shared")
struct GivenDmaBufTests {
  /// A dma-buf of the guest's, closed with the test.
  private final class Given {
    let file: FileDescriptor
    init(_ file: FileDescriptor) { self.file = file }
    deinit { try? file.close() }
    var source: MemorySource { .fileDescriptor(file) }
    var isOpen: Bool { fcntl(file.rawValue, F_GETFD) >= 0 }
  }

  private func give(_ stage: Stage, pages: Int, _ kind: ForeignDmaBuf = .ordinary) throws -> Given {
    Given(try stage.machine.makeForeignDmaBuf(pages: pages, in: stage.guest, kind: kind))
  }

  private func refusal(_ stage: Stage, _ byteCount: Int?, _ source: MemorySource) -> ShareError? {
    error { () throws(ShareError) in _ = try stage.share(byteCount: byteCount, from: source) }
  }

  @Test("is shared with what is in it, and stays its caller's", arguments: [nil, 8192, 8191, 4097])
  func contents(byteCount: Int?) throws {
    let stage = try Stage()
    let given = try give(stage, pages: 2)
    try stage.machine.write(sample(8192), toDmaBuf: given.file)
    let before = stage.guest.census
    let buffer = try stage.share(byteCount: byteCount, from: given.source)
    #expect(buffer.byteCount == byteCount ?? 8192)
    #expect(buffer.references.count == 2)
    #expect(buffer.bytes() == sample(8192))
    #expect(buffer.fileDescriptor != given.file)
    let mapped = try stage.map(buffer)
    #expect(try mapped.mapContents().bytes(0..<8192) == sample(8192))
    _ = consume mapped
    try buffer.withdraw()
    #expect(stage.guest.census(expecting: before) == before)
    #expect(given.isOpen)
    #expect(try stage.machine.bytes(ofDmaBuf: given.file) == sample(8192))
  }

  @Test(
    "is refused for another size, and nothing is granted",
    arguments: [1, 4096, 8193, 12288, .max, 0, -1])
  func otherSize(byteCount: Int) throws {
    let stage = try Stage()
    let given = try give(stage, pages: 2)
    let before = stage.guest.census
    #expect(
      refusal(stage, byteCount, given.source) == .otherSize(asked: byteCount, dmaBuf: 8192))
    #expect(stage.guest.census(expecting: before) == before)
    #expect(given.isOpen)
  }

  @Test("of no whole pages is refused")
  func notWholePages() throws {
    let stage = try Stage()
    let given = try give(stage, pages: 2, .notWholePages)
    let before = stage.guest.census
    #expect(refusal(stage, nil, given.source) == .notWholePages(byteCount: 7168))
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("whose memory begins inside of a page is refused by gntdev")
  func offset() throws {
    let stage = try Stage()
    let given = try give(stage, pages: 2, .withOffset(64))
    let before = stage.guest.census
    guard case .xen(let cause)? = refusal(stage, nil, given.source) else {
      Issue.record("it was shared")
      return
    }
    #expect(cause.call == .importDmaBuf && cause.errno == .invalidArgument)
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("that has no pages of ordinary memory cannot be mapped by the peer")
  func withoutPages() throws {
    let stage = try Stage()
    let given = try give(stage, pages: 1, .withoutPages)
    let buffer = try stage.share(byteCount: nil, from: given.source)
    guard
      case .xen(let cause)? = stage.refusal(stage.request(for: buffer), by: Mechanism.automatic)
    else {
      Issue.record("it was mapped")
      return
    }
    #expect(cause.status == .badPage)
  }

  @Test("that is itself another domain's is no memory of this one, and not the processor's")
  func foreign() throws {
    let stage = try Stage()
    let third = try stage.machine.addDomain()
    let theirs = try SharedBuffer(byteCount: 4096, peer: stage.guest.id, xen: third.xen)
    let mapped = try MappedBuffer(
      MapParameters(domain: third.id, directory: theirs.directory, byteCount: 4096),
      xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs, mechanisms: [.dmabuf])
    let file = try mapped.requireFile()
    let buffer = try stage.share(byteCount: nil, from: .fileDescriptor(file))
    do {
      try buffer.withMemory(.read) { _ in }
      Issue.record("the processor was let in")
    } catch ShareError.notMappable(let cause) {
      #expect(cause.call == .map && cause.errno == .invalidArgument)
    }
    guard case .xen? = stage.refusal(stage.request(for: buffer), by: Mechanism.automatic) else {
      Issue.record("it was mapped")
      return
    }
  }

  @Test("that is not open, or no dma-buf, is refused")
  func noDmaBuf() throws {
    let stage = try Stage()
    let before = stage.guest.census
    // No process has so many files.
    let closed = FileDescriptor(rawValue: .max)
    guard case .memory(let cause)? = refusal(stage, nil, .fileDescriptor(closed)) else {
      Issue.record("it was shared")
      return
    }
    #expect(cause.call == .identify && cause.errno == .badFileDescriptor)
    let file = try stage.guest.dmaBufs.makeMemoryFile(named: "no dma-buf", byteCount: 4096)
    let descriptor = file.fileDescriptor
    guard case .xen(let other)? = refusal(stage, nil, .fileDescriptor(descriptor)) else {
      Issue.record("it was shared")
      return
    }
    #expect(other.call == .importDmaBuf && other.errno == .invalidArgument)
    let empty = try stage.guest.dmaBufs.makeMemoryFile(named: "empty", byteCount: 0)
    #expect(refusal(stage, nil, .fileDescriptor(empty.fileDescriptor)) == .impossibleSize(0))
    _ = consume file
    _ = consume empty
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("is waited for by the processor until its devices are done")
  func idle() throws {
    let stage = try Stage()
    let given = try give(stage, pages: 1)
    let buffer = try stage.share(byteCount: nil, from: given.source)
    #expect(try buffer.isIdle(for: .write))
    let reads = try stage.machine.addFence(toDmaBuf: given.file, as: .read)
    #expect(try buffer.isIdle(for: .read))
    #expect(try !buffer.isIdle(for: .write))
    reads.signal()
    #expect(try buffer.isIdle(for: .write))
    let writes = try stage.machine.addFence(toDmaBuf: given.file, as: .write)
    #expect(try !buffer.isIdle(for: .read))
    writes.signal(error: .ioError)
    #expect(try buffer.isIdle(for: .read))
    let plain = try stage.share(pages: 1)
    #expect(try plain.isIdle(for: .write))
  }
}
