import DmaBuf
import EventLoop
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

/// All operations of the product.
enum FaultedOperations {
  static let all = mapping + sharing + links + publications + questions + handingOver

  /// A buffer whose directory has two pages.
  private static let pages = 1025

  // MARK: - Mapping

  private static let mapping: [FaultedOperation] =
    Mechanism.allCases.map { mechanism in
      FaultedOperation(
        "map by \(mechanism)", in: .backend,
        continues: mechanism == .cpu ? [.xen(.map): "writable by another mapping"] : [:]
      ) { stage, process, witness in
        let shared = try stage.share(pages: pages)
        let buffer = try stage.map(shared, by: [mechanism], process)
        witness.note(buffer)
        try work(with: buffer, witness)
        try release(buffer.close(), witness)
      }
    } + [
      FaultedOperation("map by what works", in: .backend) { stage, process, witness in
        let shared = try stage.share(pages: 2)
        let buffer = try stage.map(shared, by: Mechanism.automatic, process)
        witness.note(buffer)
        try release(buffer.close(), witness)
      },
      FaultedOperation("map references by what makes a dma-buf", in: .backend) {
        stage, process, witness in
        let shared = try stage.share(pages: 2)
        let buffer = try MappedBuffer(
          stage.request(for: shared), references: shared.references, xen: process.xen,
          dmaBufs: process.dmaBufs, mechanisms: Mechanism.makingDmaBuf)
        witness.note(buffer)
        try release(buffer.close(), witness)
      },
      FaultedOperation("map without gntdev's dma-bufs", in: .backend) { stage, process, witness in
        let shared = try stage.share(pages: 2)
        let buffer = try stage.map(shared, by: [.copy, .cpu], process)
        witness.note(buffer)
        try release(buffer.close(), witness)
      },
      FaultedOperation(
        "map by what makes a dma-buf, without udmabuf", in: .backend,
        with: { try Stage(hasUdmabuf: false) }
      ) { stage, process, witness in
        let shared = try stage.share(pages: 2)
        let buffer = try stage.map(shared, by: Mechanism.makingDmaBuf, process)
        witness.note(buffer)
        try release(buffer.close(), witness)
      },
      FaultedOperation("map from a release queue's buffer to the next", in: .backend) {
        stage, process, witness in
        let shared = try stage.share(pages: 2)
        let queue = ReleaseQueue(try EventLoop())
        for _ in 0..<2 {
          queue.add(
            try stage.map(shared, by: [.dmabuf], process).close(), deadline: .seconds(1)
          ) { outcome in
            guard case .released = outcome else { return witness.note("\(outcome)") }
          }
        }
        witness.note("\(queue.entries.count) wait")
      },
    ]

  /// Reads, writes, refreshes and waits.
  static func work(
    with buffer: borrowing MappedBuffer, _ witness: FaultedOperation.Witness
  ) throws {
    let read = try buffer.mapContents()
    let written = try buffer.mapContents(for: .readWrite)
    witness.note(read.isWritable ? "writable at once" : "writable by another mapping")
    written.write([1, 2, 3], at: 4094)
    try buffer.writeBack([4094..<4097])
    try buffer.refresh()
    try buffer.refresh([0..<10, 4094..<8192])
    witness.note("\(read.bytes(4094..<4097))")
    witness.note("idle: \(try buffer.isIdle())")
    guard let fences = try buffer.exportFences() else { return }
    witness.note("over: \(try fences.wait(milliseconds: 0))")
  }

  static func release(
    _ buffer: consuming ReleasingBuffer, _ witness: FaultedOperation.Witness
  ) throws {
    witness.note("released: \(try buffer.isReleased())")
  }

  // MARK: - Sharing

  private static let sources: [MemorySource] = [.gntalloc, .udmabuf, .heap("system")]

  private static let sharing: [FaultedOperation] =
    sources.map { source in
      FaultedOperation("share from \(source)", in: .guest) { stage, process, witness in
        let buffer = try stage.share(byteCount: pages * 4096, from: source, process)
        try work(with: buffer, witness)
        try buffer.withdraw()
      }
    }
    + sources.map { source in
      FaultedOperation("share from \(source) in the peer's directory", in: .guest) {
        stage, process, witness in
        let offered = try OfferedDirectory(
          byteCount: pages * 4096, peer: stage.guest.id, limits: BufferLimits(),
          xen: stage.backend.xen)
        let buffer = try stage.share(
          byteCount: pages * 4096, from: source, in: .peers(offered.reference), process)
        witness.note("\(offered.references()?.count ?? 0) references")
        try work(with: buffer, witness)
        try buffer.withdraw()
      }
    } + [
      FaultedOperation(
        "share from a heap in a PV domain 0", in: .backend, with: { try Stage(kind: .pv) }
      ) { stage, process, witness in
        let buffer = try SharedBuffer(
          ShareParameters(peer: stage.guest.id, byteCount: 8192, memory: .heap("system")),
          xen: process.xen, dmaBufs: process.dmaBufs)
        try work(with: buffer, witness)
        try buffer.withdraw()
      },
      FaultedOperation("share a dma-buf that is given", in: .guest) { stage, process, witness in
        let file = try stage.machine.makeForeignDmaBuf(pages: 3, in: stage.guest)
        defer { try? file.close() }
        let buffer = try stage.share(byteCount: nil, from: .fileDescriptor(file), process)
        try work(with: buffer, witness)
        try buffer.withdraw()
      },
      FaultedOperation("share, and let the value end", in: .guest) { stage, process, witness in
        let buffer = try stage.share(byteCount: 8192, from: .udmabuf, process)
        try work(with: buffer, witness)
      },
      FaultedOperation("offer a directory", in: .backend) { stage, process, witness in
        let offered = try OfferedDirectory(
          byteCount: pages * 4096, peer: stage.guest.id, limits: BufferLimits(), xen: process.xen)
        witness.note("\(offered.references() == nil)")
      },
      FaultedOperation("share a pool of which the peer maps a piece", in: .guest) {
        stage, process, witness in
        let shared = try SharedBuffer(
          ShareParameters(peer: stage.backend.id, byteCount: 1 << 20, memory: .udmabuf),
          xen: process.xen, dmaBufs: process.dmaBufs)
        try work(with: shared, witness)
        var pool = BufferPool(pages: shared.references.count)
        let piece = try pool.take(byteCount: 10_000)
        let mapped = try stage.map(
          references: Array(shared.references[piece.page..<piece.page + piece.pages]), by: [.dmabuf]
        )
        witness.note("\(mapped.references.count) pages; \(pool.giveBack(piece))")
      },
    ]

  static func work(
    with buffer: borrowing SharedBuffer, _ witness: FaultedOperation.Witness
  ) throws {
    witness.note("idle: \(try buffer.isIdle(for: .write))")
    try buffer.withMemory(.write) { $0.write([1, 2, 3], at: 4094) }
    witness.note("\(try buffer.withMemory(.read) { $0.bytes(4094..<4097) })")
  }

  // MARK: - Links

  private static let links: [FaultedOperation] = [
    FaultedOperation("the owner's side of a link", in: .guest) { stage, process, witness in
      var owner = try stage.makeOwner(process.xen)
      try owner.announceFrame()
      do {
        let peer = try stage.makePeer(owner)
        try peer.announceMapped()
        try peer.announceUsed(frame: owner.frame)
        witness.note("\(try owner.changes())")
        try peer.announceReleased()
      }
      try owner.announceFrame(at: 1)
      try owner.announceClosing()
      witness.note("\(try owner.changes())")
    },
    FaultedOperation("the peer's side of a link", in: .backend) { stage, process, witness in
      var owner = try stage.makeOwner()
      var peer = try stage.makePeer(owner, process.xen)
      try peer.announceMapped()
      try owner.announceFrame()
      witness.note("\(try peer.changes())")
      try peer.announceUsed(frame: 1)
      try owner.announceClosing()
      witness.note("\(try peer.changes())")
      try peer.announceReleased()
    },
    FaultedOperation(
      "the watch for a domain's end", in: .backend,
      continues: [
        .xen(.watch): "notified by XenStore: false",
        .xen(.isIntroduced): "notified by XenStore: false",
      ]
    ) { stage, process, witness in
      let watch = try DomainWatch(stage.guest.id, xen: process.xen)
      witness.note("notified by XenStore: \(watch.isNotified)")
      witness.note("gone: \(try watch.isGone())")
    },
    FaultedOperation("fences from one dma-buf to another", in: .guest) { stage, process, witness in
      let one = try process.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
      let other = try process.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
      try one.setName("one")
      let fence = try stage.machine.addFence(toDmaBuf: one.fileDescriptor, as: .write)
      let before = try one.exportFences(before: .read)
      let merged = try before.merged(with: try other.exportFences(before: .write), name: "both")
      try other.importFence(merged, as: .write)
      witness.note("idle: \(try other.isIdle(for: .read))")
      fence.signal()
      witness.note("idle: \(try other.waitUntilIdle(for: .read, milliseconds: 1000))")
      witness.note("\(try merged.information().status)")
    },
  ]

  // MARK: - XenStore

  static func publish(
    _ owner: borrowing ExporterChannel, _ xen: Xen
  ) throws -> OwnPublication {
    let request = MapParameters(
      domain: owner.peer, directory: GrantReference(rawValue: 9), byteCount: 4096)
    return try OwnPublication("screen", request: request, channel: owner, xen: xen)
  }

  /// Whose guest has published before: the node above all that it publishes is there, and stays.
  static let makePublishers: @Sendable () throws -> Stage = {
    let stage = try Stage()
    try stage.guest.xen.openStore().makeDirectory("data/zcopy")
    return stage
  }

  private static let publications: [FaultedOperation] = [
    FaultedOperation(
      "publish and withdraw", in: .guest, leavesNodes: [.xen(.remove)],
      continues: [.xen(.remove): "24"], with: makePublishers
    ) {
      stage, process, witness in
      let publication = try publish(try stage.makeOwner(process.xen), process.xen)
      witness.note(publication.path)
      publication.withdraw()
      witness.note("\(stage.machine.storeNodes)")
    },
    FaultedOperation("read what is published", in: .backend, with: makePublishers) {
      stage, process, witness in
      let owner = try stage.makeOwner()
      let published = try publish(owner, stage.guest.xen)
      let store = try process.xen.openStore()
      let publication = try Publication(reading: published.path, in: store)
      witness.note("\(publication.request.byteCount)")
    },
  ]

  // MARK: - What works here

  private static let questions: [FaultedOperation] = [
    FaultedOperation(
      "ask what can be shared", in: .guest,
      continues: [.xen(.openGrantAllocator): "gntalloc: false"]
    ) { _, process, witness in
      let support = SharingSupport(xen: process.xen, dmaBufs: process.dmaBufs)
      witness.note("\(support)")
      witness.note("gntalloc: \(support.hasAllocator)")
    },
    FaultedOperation(
      "ask for a diagnosis", in: .backend,
      continues: [.xen(.openGrantAllocator): "share-gntalloc: note"]
    ) { _, process, witness in
      let diagnosis = Diagnosis(
        of: process.xen, dmaBufs: process.dmaBufs, root: "/a/system/without/files")
      for finding in diagnosis.findings {
        witness.note("\(finding)")
        witness.note("\(finding.name): \(finding.verdict)")
      }
    },
  ]
}

extension Stage {
  /// Maps a buffer in a process of domain 0.
  func map(
    _ buffer: borrowing SharedBuffer, by mechanisms: [Mechanism], _ process: SimulatedProcess
  ) throws(MapError) -> MappedBuffer {
    try MappedBuffer(
      request(for: buffer), xen: process.xen, dmaBufs: process.dmaBufs, mechanisms: mechanisms)
  }

  /// Shares a buffer from a process of the guest.
  func share(
    byteCount: Int?, from memory: MemorySource,
    in directory: ShareParameters.Directory = .own, _ process: SimulatedProcess
  ) throws(ShareError) -> SharedBuffer {
    try SharedBuffer(
      ShareParameters(
        peer: backend.id, byteCount: byteCount, memory: memory, directory: directory),
      xen: process.xen, dmaBufs: process.dmaBufs)
  }
}
