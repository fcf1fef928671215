import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Simulated dma-bufs of a domain's own memory")
struct LocalDmaBufTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain(udmabufLimit: 1 << 20, udmabufListLimit: 4)
    guest = try machine.addDomain()
  }

  @Test("A memory file and its dma-buf are the same memory, for a processor, a device and a peer")
  func sameMemory() throws {
    let file = try dom0.dmaBufs.makeMemoryFile(named: "frame", byteCount: 8192)
    let dmaBuf = try dom0.dmaBufs.makeDmaBuf(of: file)
    let seen = try dmaBuf.map(writable: false)
    let written = try file.map(writable: true)
    #expect(try machine.bytes(ofDmaBuf: dmaBuf.fileDescriptor).allSatisfy { $0 == 0 })
    written.memory.storeByte(1, at: 5000)
    #expect(seen.memory.loadByte(at: 5000) == 1)
    try machine.write([2], toDmaBuf: dmaBuf.fileDescriptor, at: 5001)
    #expect(written.memory.loadByte(at: 5001) == 2)
    let device = try dom0.xen.openGrantDevice()
    let references = try device.importDmaBuf(dmaBuf.fileDescriptor, to: guest.id, pages: 2)
    let peer = try guest.xen.openGrantDevice().map(references, of: dom0.id, writable: true)
    peer.memory.storeByte(3, at: 5002)
    #expect(try machine.bytes(ofDmaBuf: dmaBuf.fileDescriptor)[4999...5003] == [0, 1, 2, 3, 0])
  }

  @Test("Every resource is counted while it is open, mapped or granted, and not longer")
  func lifetimes() throws {
    let before = dom0.census
    let device = try dom0.xen.openGrantDevice()
    let number: Int32
    do {
      let mapping: LocalMapping
      do {
        let dmaBuf: DmaBuf
        do {
          let file = try dom0.dmaBufs.makeMemoryFile(named: "frame", byteCount: 8192)
          dmaBuf = try dom0.dmaBufs.makeDmaBuf(of: file)
          let others = try file.map(writable: true)
          #expect(dom0.census.memoryFiles == 1)
          #expect(dom0.census.localMappings == 1)
          #expect(others.memory.byteCount == 8192)
        }
        #expect(dom0.census.memoryFiles == 0)
        #expect(dom0.census.localMappings == 0)
        #expect(dom0.census.localDmaBufs == 1)
        mapping = try dmaBuf.map(writable: true)
        number = dmaBuf.fileDescriptor.rawValue
        _ = try device.importDmaBuf(dmaBuf.fileDescriptor, to: guest.id, pages: 2)
      }
      #expect(dom0.census.localDmaBufs == 1)
      mapping.memory.storeByte(1, at: 0)
      #expect(dom0.census.localMappings == 1)
    }
    #expect(dom0.census.localDmaBufs == 1)
    try device.releaseImport(dmaBufNumber: number)
    #expect(dom0.census.localDmaBufs == 0)
    #expect(dom0.census.grantsInUse == before.grantsInUse)
    #expect(dom0.census.openHandles == 1)
  }

  @Test("A killed process has no mappings, and its calls fail")
  func killed() throws {
    let process = dom0.openProcess()
    let file = try process.dmaBufs.makeMemoryFile(named: "frame", byteCount: 4096)
    let mapping = try file.map(writable: true)
    let device = try process.xen.openGrantDevice()
    let dmaBuf = try process.dmaBufs.makeDmaBuf(of: file)
    _ = try device.importDmaBuf(dmaBuf.fileDescriptor, to: guest.id, pages: 1)
    process.kill()
    #expect(dom0.census.localMappings == 0)
    #expect(dom0.census.grantsInUse == 0)
    mapping.memory.storeByte(1, at: 0)
    let error = #expect(throws: DmaBufError.self) { _ = try dmaBuf.map(writable: true) }
    #expect(error?.errno == .badFileDescriptor)
    #expect(throws: DmaBufError.self) { _ = try dmaBuf.exportFences(before: .read) }
  }

  @Test("udmabuf refuses a range that is not whole pages of a sealed memory file, or is too large")
  func udmabufRules() throws {
    let file = try dom0.dmaBufs.makeMemoryFile(named: "frame", byteCount: 2 << 20)
    let number = file.fileDescriptor.rawValue
    func refusal(_ pieces: [MemoryFilePiece]) -> Errno? {
      do throws(DmaBufError) {
        _ = try dom0.dmaBufs.makeDmaBuf(of: pieces)
        return nil
      } catch {
        return error.errno
      }
    }
    func piece(_ offset: Int, _ byteCount: Int, of descriptor: Int32? = nil) -> MemoryFilePiece {
      MemoryFilePiece(descriptor: descriptor ?? number, offset: offset, byteCount: byteCount)
    }
    #expect(refusal([]) == .invalidArgument)
    #expect(refusal([piece(0, 0)]) == .invalidArgument)
    #expect(refusal([piece(1, 4096)]) == .invalidArgument)
    #expect(refusal([piece(0, 4095)]) == .invalidArgument)
    #expect(refusal([piece(-4096, 4096)]) == .invalidArgument)
    #expect(refusal([piece(2 << 20, 4096)]) == .invalidArgument)
    #expect(refusal([piece(Int.max - 4095, 4096)]) == .invalidArgument)
    #expect(refusal([piece(0, (1 << 20) + 4096)]) == .invalidArgument)
    #expect(refusal([piece(0, 1 << 20), piece(0, 4096)]) == .invalidArgument)
    #expect(refusal(Array(repeating: piece(0, 4096), count: 5)) == .invalidArgument)
    #expect(refusal(Array(repeating: piece(0, 4096), count: 4)) == nil)
    #expect(refusal([piece(1 << 20, 1 << 20)]) == nil)
    #expect(refusal([piece(0, 4096, of: 1_000_000)]) == Errno(rawValue: EBADFD))
    let dmaBuf = try dom0.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
    let plain = try FileDescriptor.open(FilePath("/dev/null"), .readWrite)
    #expect(refusal([piece(0, 4096, of: plain.rawValue)]) == Errno(rawValue: EBADFD))
    try plain.close()
    #expect(
      refusal([piece(0, 4096, of: dmaBuf.fileDescriptor.rawValue)]) == Errno(rawValue: EBADFD))
  }

  @Test("A domain may have neither udmabuf nor heaps, no right to udmabuf, or heaps of any name")
  func missing() throws {
    let bare = try machine.addDomain(hasUdmabuf: false, heaps: [])
    let file = try bare.dmaBufs.makeMemoryFile(named: "frame", byteCount: 4096)
    let error = #expect(throws: DmaBufError.self) { _ = try bare.dmaBufs.makeDmaBuf(of: file) }
    #expect(error?.errno == .noSuchFileOrDirectory)
    #expect(bare.dmaBufs.udmabufSupport() == .noSuchFileOrDirectory)
    #expect(bare.dmaBufs.udmabufLimit == nil)
    #expect(bare.dmaBufs.heaps == [])
    let barred = try machine.addDomain(mayOpenUdmabuf: false)
    let refusal = #expect(throws: DmaBufError.self) { _ = try barred.dmaBufs.makeDmaBuf(of: file) }
    #expect(refusal?.errno == .permissionDenied)
    #expect(barred.dmaBufs.udmabufSupport() == .permissionDenied)
    let board = try machine.addDomain(heaps: ["system", "dmaBufs,cma"])
    #expect(board.dmaBufs.heaps == ["dmaBufs,cma", "system"])
    #expect(board.dmaBufs.udmabufSupport() == nil)
    #expect(board.dmaBufs.udmabufLimit == 64 << 20)
    #expect(try board.dmaBufs.allocate(byteCount: 5000, fromHeap: "dmaBufs,cma").byteCount == 8192)
    let unknown = #expect(throws: DmaBufError.self) {
      _ = try board.dmaBufs.allocate(byteCount: 4096, fromHeap: "reserved")
    }
    #expect(unknown?.errno == .noSuchFileOrDirectory)
    let none = #expect(throws: DmaBufError.self) {
      _ = try board.dmaBufs.allocate(byteCount: 0, fromHeap: "system")
    }
    #expect(none?.errno == .invalidArgument)
  }

  @Test("Dma-bufs have distinct inodes, and their names are no longer than the kernel's")
  func identity() throws {
    let file = try dom0.dmaBufs.makeMemoryFile(named: "frame", byteCount: 4096)
    let one = try dom0.dmaBufs.makeDmaBuf(of: file)
    let other = try dom0.dmaBufs.makeDmaBuf(of: file)
    #expect(one.inode != other.inode)
    #expect(try machine.name(ofDmaBuf: one.fileDescriptor) == "")
    try one.setName(String(repeating: "a", count: 40))
    #expect(
      try machine.name(ofDmaBuf: one.fileDescriptor) == String(repeating: "a", count: 31))
    #expect(throws: Errno.invalidArgument) {
      try dom0.platform.setName(
        String(repeating: "a", count: 32), of: one.fileDescriptor.rawValue)
    }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      try dom0.platform.setName("a", of: file.fileDescriptor.rawValue)
    }
  }

  @Test("Another exporter's dma-buf is granted if it is whole pages from the first byte on")
  func foreign() throws {
    let device = try dom0.xen.openGrantDevice()
    func grant(_ kind: ForeignDmaBuf) throws -> Result<[GrantReference], XenError> {
      let file = try machine.makeForeignDmaBuf(pages: 2, in: dom0, kind: kind)
      try machine.write([7], toDmaBuf: file, at: 10)
      #expect(try machine.bytes(ofDmaBuf: file)[10] == 7)
      defer { try? file.close() }
      do throws(XenError) {
        return .success(try device.importDmaBuf(file, to: guest.id, pages: 2))
      } catch {
        return .failure(error)
      }
    }
    let peer = try guest.xen.openGrantDevice()
    let mapping = try peer.map(try grant(.ordinary).get(), of: dom0.id)
    #expect(mapping.memory.loadByte(at: 10) == 7)
    for kind in [ForeignDmaBuf.withOffset(64), .notWholePages] {
      guard case .failure(let error) = try grant(kind) else {
        Issue.record("\(kind) was granted")
        continue
      }
      #expect(error.errno == .invalidArgument)
    }
    let references = try grant(.withoutPages).get()
    let error = #expect(throws: XenError.self) { _ = try peer.map(references, of: dom0.id) }
    #expect(error?.errno == .invalidArgument)
  }

  @Test("gntdev's dma-bufs can be synchronised and not mapped")
  func exported() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let dmaBuf = try dom0.dmaBufs.adopt(
      try dom0.xen.openGrantDevice().exportDmaBuf(pages.references, of: guest.id))
    let error = #expect(throws: DmaBufError.self) { _ = try dmaBuf.map(writable: false) }
    #expect(error?.errno == .invalidArgument)
    #expect(try dmaBuf.withProcessorAccess(.read) { 1 } == 1)
    #expect(dom0.census.dmaBufs == 1)
    #expect(dom0.census.localDmaBufs == 0)
  }

  @Test("A descriptor of one domain is not open in another")
  func otherDomain() throws {
    let dmaBuf = try dom0.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
    let error = #expect(throws: XenError.self) {
      _ = try guest.xen.openGrantDevice().importDmaBuf(
        dmaBuf.fileDescriptor, to: dom0.id, pages: 1)
    }
    #expect(error?.errno == .badFileDescriptor)
  }

  @Test("If a PV domain's memory is not contiguous, a heap's chunks are bounced or refused")
  func scattered() throws {
    let machine = SimulatedMachine()
    let dom0 = try machine.addDomain(kind: .pv, hasScatteredMemory: true)
    let device = try dom0.xen.openGrantDevice()
    func words(ofHeap pages: Int) throws -> [UInt32] {
      let dmaBuf = try dom0.dmaBufs.allocate(byteCount: pages * 4096, fromHeap: "system")
      let mapping = try dmaBuf.map(writable: true)
      for page in 0..<pages { mapping.memory.storeWord(7, at: page * 4096) }
      let granted = try dom0.xen.openGrantDevice().map(
        try device.importDmaBuf(dmaBuf.fileDescriptor, to: dom0.id, pages: pages), of: dom0.id)
      return (0..<pages).map { granted.memory.loadWord(at: $0 * 4096) }
    }
    #expect(try words(ofHeap: 15).allSatisfy { $0 == 7 })
    #expect(try words(ofHeap: 17) == Array(repeating: 0, count: 16) + [7])
    let error = #expect(throws: XenError.self) { _ = try words(ofHeap: 256) }
    #expect(error?.errno == .ioError)
  }
}
