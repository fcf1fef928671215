import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

/// A kernel of domain 0, and what mapping does there.
struct BackendKernel: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var kind = DomainKind.pvh
  var hasDmaBuf = true
  var hasUdmabuf = true
  /// What is chosen.
  let mechanism: Mechanism
  /// What is tried before that.
  let passedOver: [Mechanism]

  static let all = [
    BackendKernel(testDescription: "PVH", mechanism: .dmabuf, passedOver: []),
    BackendKernel(testDescription: "PV", kind: .pv, mechanism: .copy, passedOver: [.dmabuf]),
    BackendKernel(
      testDescription: "stock", hasDmaBuf: false, mechanism: .copy, passedOver: [.dmabuf]),
    BackendKernel(
      testDescription: "stock without udmabuf", hasDmaBuf: false, hasUdmabuf: false,
      mechanism: .cpu, passedOver: [.dmabuf, .copy]),
    BackendKernel(
      testDescription: "PV without udmabuf", kind: .pv, hasUdmabuf: false, mechanism: .cpu,
      passedOver: [.dmabuf, .copy]),
  ]

  func makeStage() throws -> Stage {
    try Stage(kind: kind, hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf)
  }
}

@Suite("A mechanism of mapping")
struct MechanismTests {
  private let size = 3 * GrantReference.pageSize

  @Test("shows the other domain's bytes and carries bytes back", arguments: Mechanism.allCases)
  func bothWays(mechanism: Mechanism) throws {
    let stage = try Stage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 3)
    buffer.write(sample(size), at: 0)
    let mapped = try stage.map(buffer, by: mechanism)
    #expect(mapped.mechanism == mechanism)
    #expect(mapped.passedOver.isEmpty == true)
    let contents = try mapped.mapContents(for: .readWrite)
    #expect(contents.bytes(0..<size) == sample(size))

    buffer.write([1, 2, 3], at: 4095)
    try mapped.refresh()
    #expect(contents.bytes(4094..<4099) == buffer.bytes(4094..<4099))
    contents.write([7, 8, 9], at: 8191)
    try mapped.writeBack()
    #expect(buffer.bytes(8191..<8194) == [7, 8, 9])
    #expect(contents.bytes(0..<size) == buffer.bytes())
    if let file = mapped.fileDescriptor {
      #expect(try stage.machine.bytes(ofDmaBuf: file) == buffer.bytes())
      try stage.machine.write([55], toDmaBuf: file, at: 0)
      try mapped.writeBack()
      #expect(buffer.bytes(0..<1) == [55])
    }
    _ = consume contents
    _ = consume mapped
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("that copies shows new data only after a refresh, and returns data only after a write back")
  func isCopy() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 3)
    let mapped = try stage.map(buffer, by: .copy)
    let contents = try mapped.mapContents(for: .readWrite)
    let file = try mapped.requireFile()
    buffer.write([1], at: 100)
    contents.write([2], at: 5000)
    #expect(contents.bytes(100..<101) == [0])
    #expect(try stage.machine.bytes(ofDmaBuf: file)[100] == 0)
    #expect(buffer.bytes(5000..<5001) == [0])
    // A refresh takes all, also over what was written here.
    try mapped.refresh()
    #expect(contents.bytes(100..<101) == [1])
    #expect(contents.bytes(5000..<5001) == [0])
    // No page of the other domain is mapped for it.
    #expect(stage.backend.census.activeMaps == 0)
    #expect(stage.backend.census.dmaBufs == 0)
    #expect(stage.backend.census.localDmaBufs == 1)
  }

  @Test("that maps for the processor has no dma-buf, and needs no refresh and no wait")
  func processor() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 3)
    let mapped = try stage.map(buffer, by: .cpu)
    #expect(mapped.fileDescriptor == nil)
    #expect(mapped.inode == nil)
    let isNone =
      switch mapped.dmaBuf {
      case .some: false
      case .none: true
      }
    #expect(isNone)
    #expect(stage.backend.census.activeMaps == 3)
    stage.machine.resetCalls()
    try mapped.refresh()
    try mapped.refresh([0..<1])
    try mapped.writeBack()
    #expect(try mapped.isIdle())
    let fences = try mapped.exportFences()
    let hasFences =
      switch fences {
      case .some: true
      case .none: false
      }
    #expect(!hasFences)
    // It is mapped already, for reading and writing.
    _ = try mapped.mapContents()
    _ = try mapped.mapContents(for: .readWrite)
    #expect(stage.machine.calls.total == 0)
  }

  @Test(
    "is the first that this kernel supports, and the diagnosis agrees", arguments: BackendKernel.all
  )
  func chosen(kernel: BackendKernel) throws {
    let stage = try kernel.makeStage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 3)
    buffer.write(sample(size), at: 0)
    let mapped = try MappedBuffer(
      stage.request(for: buffer), xen: stage.backend.xen, dmaBufs: stage.backend.dmaBufs)
    #expect(mapped.mechanism == kernel.mechanism)
    #expect(mapped.passedOver.map { $0.mechanism } == kernel.passedOver)
    #expect(try mapped.mapContents().bytes(0..<size) == sample(size))
    let diagnosis = Diagnosis(of: stage.backend.xen, dmaBufs: stage.backend.dmaBufs)
    #expect(diagnosis.mechanism == kernel.mechanism)
    _ = consume mapped
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("that is forced works or is refused as predicted", arguments: BackendKernel.all)
  func forced(kernel: BackendKernel) throws {
    let stage = try kernel.makeStage()
    let before = stage.backend.census
    let buffer = try stage.share(pages: 1)
    let predictions = Diagnosis(of: stage.backend.xen, dmaBufs: stage.backend.dmaBufs).predictions
    for mechanism in Mechanism.allCases {
      let works = predictions.first { $0.name == "map-\(mechanism.rawValue)" }?.works
      let refusal = stage.refusal(stage.request(for: buffer), by: [mechanism])
      #expect((refusal == nil) == works, "\(mechanism)")
      switch refusal {
      case nil: break
      case .refused(let cause, let support):
        #expect(mechanism == .dmabuf && cause.call == .exportDmaBuf && support != .usable)
      case .memory(let cause):
        #expect(mechanism == .copy && cause.call == .makeDmaBuf)
        #expect(cause.errno == .noSuchFileOrDirectory)
      case let other?: Issue.record(other)
      }
      #expect(stage.backend.census(expecting: before) == before)
    }
  }

  @Test("that needs a dma-buf is never the processor's", arguments: BackendKernel.all)
  func makingDmaBuf(kernel: BackendKernel) throws {
    let stage = try kernel.makeStage()
    let buffer = try stage.share(pages: 1)
    let request = stage.request(for: buffer)
    guard kernel.mechanism == .cpu else {
      let mapped = try stage.map(request, by: Mechanism.makingDmaBuf)
      #expect(mapped.mechanism == kernel.mechanism)
      #expect(mapped.fileDescriptor != nil)
      return
    }
    guard
      case .noMechanism(stage.guest.id, let attempts)? = stage.refusal(
        request, by: Mechanism.makingDmaBuf)
    else {
      Issue.record("a mechanism makes a dma-buf")
      return
    }
    #expect(attempts.map(\.mechanism) == [.dmabuf, .copy])
  }

  @Test("takes pages that are granted read-only, if it can")
  func readOnly() throws {
    let stage = try Stage()
    let pages = try stage.sharePages(2, writable: false)
    pages.write([0xabcd], toPage: 1)
    let references = pages.references
    let before = stage.backend.census
    let cause = XenError(
      .exportDmaBuf, .invalidArgument, domain: stage.guest.id, subject: .references(count: 2))
    let mapped = try stage.map(references: references, by: Mechanism.automatic)
    #expect(mapped.mechanism == .copy)
    #expect(
      mapped.passedOver == [PassedOver(mechanism: .dmabuf, reason: .refused(cause, .usable))])
    #expect(try mapped.mapContents().bytes(4096..<4098) == [0xcd, 0xab])
    let first = references[0]
    let refusal = error { () throws(MapError) in try mapped.writeBack() }
    #expect(
      refusal
        == .xen(
          XenError(
            .copyTo, .ioError, domain: stage.guest.id, subject: .reference(first),
            status: .generalError)))
    _ = consume mapped

    let looked = try stage.map(references: references, by: [.cpu])
    let contents = try looked.mapContents()
    #expect(!contents.isWritable)
    #expect(contents.bytes(4096..<4098) == [0xcd, 0xab])
    let write = error { () throws(MapError) in _ = try looked.mapContents(for: .readWrite) }
    #expect(
      write
        == .xen(
          XenError(.map, .invalidArgument, domain: stage.guest.id, subject: .references(count: 2))))
    _ = consume contents
    _ = consume looked
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("that maps no pages works without room for foreign pages")
  func maptrack() throws {
    let stage = try Stage(maptrack: 2)
    let buffer = try stage.share(pages: 3)
    buffer.write(sample(size), at: 0)
    let request = stage.request(for: buffer)
    let mapped = try stage.map(request, by: Mechanism.automatic)
    #expect(mapped.mechanism == .copy)
    #expect(mapped.passedOver.map { $0.mechanism } == [.dmabuf])
    #expect(try mapped.mapContents().bytes(0..<size) == sample(size))
    guard case .noMechanism(_, let attempts)? = stage.refusal(request, by: [.dmabuf, .cpu]) else {
      Issue.record("pages were mapped that there is no room for")
      return
    }
    #expect(attempts.map(\.mechanism) == [.dmabuf, .cpu])
    #expect(stage.backend.census.activeMaps == 0)
  }

  @Test("is not followed by another when Xen refuses a reference")
  func refusedReference() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let pages = try stage.sharePages(2)
    let never = GrantReference(rawValue: 4_000_000_000)
    let references = [pages.references[0], never]
    stage.machine.resetCalls()
    let refusal = error { () throws(MapError) in
      _ = try stage.map(references: references, by: Mechanism.automatic)
    }
    #expect(
      refusal
        == .xen(
          XenError(
            .copy, .ioError, domain: stage.guest.id, subject: .reference(never),
            status: .badReference)))
    #expect(stage.machine.calls[.map] == 0)
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is reported in one line with the cause of each if none works, and nothing is left behind")
  func none() throws {
    let stage = try Stage(hasDmaBuf: false, hasUdmabuf: false)
    let before = stage.backend.census
    let buffer = try stage.share(pages: 1)
    stage.backend.inject(.errno(.noMemory).always, into: .xen(.map))
    let refusal = try #require(stage.refusal(stage.request(for: buffer), by: Mechanism.automatic))
    guard case .noMechanism(stage.guest.id, let attempts) = refusal else {
      Issue.record(refusal)
      return
    }
    #expect(attempts.map(\.mechanism) == Mechanism.allCases)
    let text = "\(refusal)"
    #expect(text.hasPrefix("cannot map a buffer of domain 1: dmabuf: "))
    for words in ["CONFIG_XEN_GNTDEV_DMABUF", "; copy: ", "modprobe udmabuf", "; cpu: ", "ENOMEM"] {
      #expect(text.contains(words), "\(text)")
    }
    #expect(!text.contains("\n"))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("that is the only one reports only its own failure")
  func only() throws {
    let stage = try Stage(hasUdmabuf: false)
    let buffer = try stage.share(pages: 1)
    let refusal = try #require(stage.refusal(stage.request(for: buffer), by: [.copy]))
    guard case .memory(let cause) = refusal else {
      Issue.record(refusal)
      return
    }
    #expect("\(refusal)" == "\(cause)")
  }

  @Test("that copies names udmabuf's size limit, and how to raise it")
  func udmabufLimit() throws {
    let stage = try Stage(udmabufLimit: 1 << 20)
    let before = stage.backend.census
    let fits = try stage.share(pages: 256)
    let mapped = try stage.map(fits, by: .copy)
    _ = consume mapped
    let buffer = try stage.share(pages: 257)
    let refusal = try #require(stage.refusal(stage.request(for: buffer), by: [.copy]))
    guard case .memory(let cause) = refusal else {
      Issue.record(refusal)
      return
    }
    #expect(cause.call == .makeDmaBuf && cause.errno == .invalidArgument)
    #expect("\(refusal)".contains("may have 1 MiB here"))
    #expect("\(refusal)".contains("/sys/module/udmabuf/parameters/size_limit_mb"))
    #expect(stage.backend.census(expecting: before) == before)
  }
}

@Suite("A mapped buffer of given references")
struct InlineReferenceTests {
  @Test("has those pages in that order, without a directory", arguments: Mechanism.allCases)
  func order(mechanism: Mechanism) throws {
    let stage = try Stage()
    let pages = try stage.sharePages(3)
    for page in 0..<3 { pages.write([UInt32(page) + 1], toPage: page) }
    let references = [pages.references[2], pages.references[0]]
    stage.machine.resetCalls()
    let mapped = try stage.map(references: references, by: [mechanism])
    #expect(mapped.references == references)
    #expect(stage.machine.calls[.copy] == (mechanism == .copy ? 1 : 0))
    let contents = try mapped.mapContents()
    #expect(contents.bytes(0..<1) == [3])
    #expect(contents.bytes(4096..<4097) == [1])
  }

  @Test("is refused for a wrong number of references, for reference 0, and for duplicates")
  func refusals() throws {
    let stage = try Stage()
    let pages = try stage.sharePages(3)
    let (first, second, third) = (pages.references[0], pages.references[1], pages.references[2])
    let zero = GrantReference(rawValue: 0)
    let before = stage.backend.census
    let cases: [([GrantReference], DirectoryError)] = [
      ([], .tooShort(references: 0, pages: 2)), ([first], .tooShort(references: 1, pages: 2)),
      ([first, second, third], .extraReference(third, pages: 2)),
      ([zero, first], .zeroReference(index: 0)), ([first, zero], .zeroReference(index: 1)),
      ([first, first], .repeatedReference(first, index: 1)),
    ]
    stage.machine.resetCalls()
    for (references, expected) in cases {
      let refusal = error { () throws(MapError) in
        _ = try stage.map(references: references, byteCount: 8192, by: Mechanism.automatic)
      }
      #expect(refusal == .directory(expected, stage.guest.id))
    }
    // A request that contradicts itself is refused first.
    let empty = error { () throws(MapError) in
      _ = try stage.map(references: [first], byteCount: 0, by: Mechanism.automatic)
    }
    #expect(empty == .directory(.emptyBuffer, stage.guest.id))
    #expect(stage.machine.calls.total == 0)
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("may have any references, small ones too", arguments: [1, 2, 1023, 1024, 9000])
  func smallNumbers(count: Int) throws {
    let rising = (1...UInt32(count)).map { GrantReference(rawValue: $0) }
    let byteCount = count * GrantReference.pageSize
    try GrantDirectory.check(rising, byteCount: byteCount, limits: BufferLimits())
    try GrantDirectory.check(rising.reversed(), byteCount: byteCount, limits: BufferLimits())
    var repeated = Array(rising.reversed())
    guard count > 1 else { return }
    repeated[count - 1] = repeated[0]
    let last = repeated[0]
    #expect(throws: DirectoryError.repeatedReference(last, index: count - 1)) {
      try GrantDirectory.check(repeated, byteCount: byteCount, limits: BufferLimits())
    }
  }

  @Test("is refused above the limits")
  func limits() throws {
    let references = (1...3 as ClosedRange<UInt32>).map { GrantReference(rawValue: $0) }
    #expect(throws: DirectoryError.tooManyPages(pages: 3, limit: 2)) {
      try GrantDirectory.check(
        references, byteCount: 12288, limits: BufferLimits(pagesPerRequest: 2))
    }
    #expect(throws: DirectoryError.tooLarge(byteCount: 12288, limit: 12287)) {
      try GrantDirectory.check(
        references, byteCount: 12288, limits: BufferLimits(bytesPerBuffer: 12287))
    }
  }
}
