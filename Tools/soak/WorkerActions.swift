import DmaBuf
import Support
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// One side's part of one cycle.
enum Step: UInt32, CaseIterable {
  /// The owner's: returns the reference of the directory.
  case share, withdraw
  /// The peer's: receives that reference.
  case map, release
  /// Either side's, after the other was killed.
  case awaitExit
}

/// Runs the steps: this process, or one that is to be killed.
protocol Worker: AnyObject {
  func perform(_ step: Step, _ argument: UInt32) throws -> UInt32
}

/// Runs the steps of one cycle in this process, through the public API.
final class LocalWorker: Worker {
  private let cycle: Plan.Cycle
  private let xen: Xen
  private let dmaBufs = DmaBufSystem()
  private let other: DomainID
  private let memory: Memory
  private let mechanism: Mechanism
  // The owner's.
  private var given: DmaBuf?
  private var shared: SharedBuffer?
  private var exporterChannel: ExporterChannel?
  private var publication: OwnPublication?
  // The peer's.
  private var mapped: MappedBuffer?
  private var importerChannel: ImporterChannel?

  init(
    _ cycle: Plan.Cycle, _ memory: Memory, _ mechanism: Mechanism, with other: DomainID, xen: Xen
  ) {
    self.cycle = cycle
    self.memory = memory
    self.mechanism = mechanism
    self.other = other
    self.xen = xen
  }

  func perform(_ step: Step, _ argument: UInt32) throws -> UInt32 {
    switch step {
    case .share: return try share()
    case .withdraw: try withdraw()
    case .map: try map(GrantReference(rawValue: argument))
    case .release: try release()
    case .awaitExit: try awaitExit()
    }
    return 0
  }

  // MARK: - The owner

  /// A different name for each cycle of a batch.
  private var name: String { "soak-\(cycle.number % Plan.batch)" }
  private var byteCount: Int { cycle.pages * GrantReference.pageSize }

  private func share() throws -> UInt32 {
    let buffer = try SharedBuffer(
      ShareParameters(peer: other, byteCount: byteCount, memory: try source()), xen: xen)
    try buffer.withMemory(.write) { memory in
      for page in 0..<cycle.pages {
        memory.storeWord(cycle.word(ofPage: page), at: page * GrantReference.pageSize)
      }
    }
    let directory = buffer.directory
    shared = consume buffer
    if cycle.hasChannel { try publish(directory) }
    return directory.rawValue
  }

  private func source() throws -> MemorySource {
    switch memory {
    case .gntalloc: return .gntalloc
    case .udmabuf: return .udmabuf
    case .heap: return .heap("system")
    case .given:
      let dmaBuf = try dmaBufs.allocate(byteCount: byteCount, fromHeap: "system")
      let file = dmaBuf.fileDescriptor
      given = consume dmaBuf
      return .fileDescriptor(file)
    }
  }

  private func publish(_ directory: GrantReference) throws {
    let link = try ExporterChannel(peer: other, xen: xen, allocator: try xen.openGrantAllocator())
    publication = try OwnPublication(
      name, request: MapParameters(domain: other, directory: directory, byteCount: byteCount),
      channel: link, xen: xen)
    exporterChannel = consume link
  }

  private func withdraw() throws {
    publication?.withdraw()
    publication = nil
    exporterChannel = nil
    try shared.take()?.withdraw()
    given = nil
  }

  // MARK: - The peer

  private func map(_ directory: GrantReference) throws {
    var request = MapParameters(domain: other, directory: directory, byteCount: byteCount)
    if cycle.hasChannel {
      let path = "\(XenStore.home(of: other))/\(Publication.path(for: name) ?? "")"
      let publication = try Publication(reading: path, in: try xen.openStore())
      guard publication.request == request else { throw Stop("\(path) publishes another buffer") }
      request = publication.request
      importerChannel = try ImporterChannel(publication, xen: xen)
    }
    mapped = try MappedBuffer(request, xen: xen, mechanisms: [mechanism])
    try check()
    try importerChannel?.announceMapped()
  }

  /// Checks that each page belongs to the owner of this cycle, whether or not the owner still
  /// lives.
  private func check() throws {
    guard let contents = try mapped?.mapContents() else { return }
    try contents.withMemory { memory in
      for page in 0..<cycle.pages {
        let word = memory.loadWord(at: page * GrantReference.pageSize)
        guard word == cycle.word(ofPage: page) else {
          throw Stop(
            "cycle \(cycle.number), \(mechanism): page \(page) of \(cycle.pages) begins with \(word)"
          )
        }
      }
    }
  }

  private func release() throws {
    try check()
    guard let releasing = mapped.take()?.close() else { return }
    try wait("waiting for the release of the pages") { try releasing.isReleased() }
    try importerChannel?.announceReleased()
    importerChannel = nil
  }

  // MARK: - Death

  /// The kernel notifies either side when the other was killed.
  private func awaitExit() throws {
    try wait("waiting for the notification of the other side's death") {
      try exporterChannel?.changes().contains(.died) ?? importerChannel?.changes().contains(.died)
        ?? true
    }
  }

  private func wait(_ what: String, until isDone: () throws -> Bool) throws {
    let end = BootClock().now + .seconds(10)
    while try !isDone() {
      guard BootClock().now < end else {
        throw Stop("cycle \(cycle.number), \(mechanism): time limit of 10 s exceeded: \(what)")
      }
      usleep(200)
    }
  }
}
