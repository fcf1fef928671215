import EventLoop
import Glibc
import Logging
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// Sessions of `share` and `map` in two domains of a simulated machine, and their output.
final class SessionStage: Stage {
  /// The domain that maps: domain 0, unless the stage is reversed.
  let mapper: SimulatedDomain
  /// The domain that shares.
  let sharer: SimulatedDomain
  let scratch: TemporaryDirectory
  let shareOutput: Capture
  let mapOutput: Capture
  let path: String

  init(
    isReversed: Bool = false, backendKind: DomainKind = .pvh, hasDmaBuf: Bool = true,
    hasUdmabuf: Bool = true
  ) throws {
    scratch = try TemporaryDirectory()
    shareOutput = try Capture()
    mapOutput = try Capture()
    let stage = try Stage(
      kind: backendKind, hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf, guestPages: 1024)
    (mapper, sharer) =
      isReversed ? (stage.guest, stage.backend) : (stage.backend, stage.guest)
    path = "/local/domain/\(sharer.id)/data/zcopy/screen"
    super.init(on: stage)
  }

  func sharePlan(
    _ source: BufferSource, _ byteCount: Int?, geometry: PictureGeometry? = nil,
    frames: Int? = nil, name: String? = "screen"
  ) -> ShareSession.Plan {
    ShareSession.Plan(
      request: ShareRequest(
        peer: mapper.id, byteCount: byteCount, memory: .gntalloc, geometry: geometry, name: name),
      source: source, frames: frames, interval: .milliseconds(1), timeToUse: .seconds(600),
      releaseTimeout: .seconds(60))
  }

  func mapPlan(
    _ source: MapSource? = nil, dump: String? = nil, verify: TestPattern? = nil,
    follows: Bool = false, program: [String] = []
  ) -> MapSession.Plan {
    MapSession.Plan(
      request: MapRequest(source: source ?? .published(path: path), name: "test"),
      contents: ContentsWriter(path: dump, pattern: verify), follows: follows, program: program,
      releaseTimeout: .seconds(60))
  }

  /// A session of `share` in its domain: over the engine, or over a daemon.
  func share(
    _ plan: ShareSession.Plan, _ xen: Xen? = nil, daemon: TestDaemon? = nil
  ) throws -> TestThread {
    let output = shareOutput.output(json: true)
    let makeHost = host(in: sharer, xen, daemon, isPersistent: plan.isPersistent)
    return try TestThread { try ShareSession(plan, output: output, makeHost: makeHost).run() }
  }

  /// A session of `map` in its domain: over the engine, or over a daemon.
  func map(
    _ plan: MapSession.Plan, _ xen: Xen? = nil, daemon: TestDaemon? = nil, root: String = ""
  ) throws -> TestThread {
    let output = mapOutput.output(json: true)
    let makeHost = host(in: mapper, xen, daemon, isPersistent: plan.isPersistent, root: root)
    return try TestThread { try MapSession(plan, output: output, makeHost: makeHost).run() }
  }

  private func host(
    in domain: SimulatedDomain, _ xen: Xen?, _ daemon: TestDaemon?, isPersistent: Bool,
    root: String = ""
  ) -> (EventLoop) throws -> any BufferHost {
    let (xen, dmaBufs, socket) = (xen ?? domain.xen, domain.dmaBufs, daemon?.socket)
    return { loop in
      if let socket {
        return try DaemonHost(
          DaemonConnection(path: socket), isPersistent: isPersistent, xen: xen, dmaBufs: dmaBufs,
          loop: loop)
      }
      return EngineHost(
        xen: xen, dmaBufs: dmaBufs, loop: loop,
        logger: .silent, root: root)
    }
  }

  func awaitPublication() throws {
    // The peer may not look for the publication before it exists.
    let store = try sharer.xen.openStore()
    try wait("the buffer is not published") {
      try store.readIfPresent("\(path)/version") != nil
    }
  }

  func await(_ event: String, _ capture: Capture) throws {
    try wait("there is no event \(event)") {
      try capture.objects.contains { $0["event"] == .string(event) }
    }
  }

  func events(_ capture: Capture) throws -> [String] {
    try capture.objects.map { object in
      if case .string(let event)? = object["event"] { event } else { "" }
    }
  }

  /// A number in the first of those events.
  func number(_ field: String, of event: String, _ capture: Capture) throws -> Int {
    let object = try capture.objects.first { $0["event"] == .string(event) }
    guard case .number(let number)? = object?[field] else {
      Issue.record("the event \(event) has no number \(field)")
      return 0
    }
    return Int(number)
  }

  /// The numbers of the frames that a session has reported.
  func frames(_ capture: Capture) throws -> [Int] {
    try capture.objects.compactMap { object in
      guard object["event"] == .string("frame"), case .number(let frame)? = object["frame"]
      else { return nil }
      return Int(frame)
    }
  }

  /// The dma-buf of the mapping session, which is open as long as the session has it.
  func mappedFile() throws -> FileDescriptor {
    try self.await("mapped", mapOutput)
    return FileDescriptor(rawValue: Int32(try number("fd", of: "mapped", mapOutput)))
  }

  /// The reported reason for the end of the mapping session.
  var reason: String? {
    get throws {
      let ended = try mapOutput.objects.first { $0["event"] == .string("ended") }
      guard case .string(let reason)? = ended?["reason"] else { return nil }
      return reason
    }
  }

  private func holdsFiles(_ census: DomainCensus) -> Bool {
    census.dmaBufs + census.localDmaBufs + census.memoryFiles + census.syncFiles
      + census.openHandles + census.ports > 0
  }

  /// Checks that no session has left resources.
  func expectNothingLeft() throws {
    // A program that another test starts has a copy of every descriptor, until it runs.
    try wait("a file is left") { ![mapper, sharer].contains { holdsFiles($0.census) } }
    for domain in [mapper, sharer] {
      let census = domain.census
      #expect(census.openHandles == 0)
      #expect(census.grantsInUse == 0)
      #expect(census.activeMaps == 0)
      #expect(census.allocatedPages == 0)
      #expect(census.ports == 0)
      #expect(census.dmaBufs == 0)
      #expect(census.localDmaBufs == 0)
      #expect(census.importedDmaBufs == 0)
      #expect(census.memoryFiles == 0)
      #expect(census.localMappings == 0)
      #expect(census.syncFiles == 0)
    }
    #expect(machine.liveDmaBufs == 0)
    #expect(try sharer.xen.openStore().readIfPresent(path) == nil)
  }
}
