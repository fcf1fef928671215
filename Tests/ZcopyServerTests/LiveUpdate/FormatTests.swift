import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend
@testable import ZcopyEngine
@testable import ZcopyServer
@testable import ZcopyWire

/// The contents of a state as lines that do not depend on the layout of its types.
func lines(of state: ServerState) -> [String] {
  var lines = [
    "configuration \(state.configuration)", "socket \(words(state.socketPath))",
    "places \(words(state.places))", "dropped \(state.droppedClients)",
    "last connection \(state.lastConnection.rawValue)", "age \(state.age)",
    "time \(state.engine.time)",
    "counters \(words(state.engine.counters.numbers))",
  ]
  for connection in state.connections { lines.append("connection \(words(connection))") }
  for buffer in state.engine.buffers {
    lines.append("buffer \(words(buffer.id))")
    lines.append("  description \(words(buffer.description))")
    lines.append("  holder \(words(buffer.holder))")
    lines.append("  phase \(buffer.phase) for \(buffer.phaseAge) of \(buffer.age)")
    lines.append("  frame \(buffer.frame) used \(words(buffer.usedFrame))")
    lines.append("  contents \(words(buffer.contents))")
    lines.append("  importer \(words(buffer.importerChannel))")
    lines.append("  exporter \(words(buffer.exporterChannel))")
    lines.append("  publication \(words(buffer.publication))")
  }
  for wait in state.waits {
    lines.append(
      "wait \(words(wait.buffer)) \(wait.connection.rawValue) \(wait.number.rawValue) \(words(wait.rest))"
    )
  }
  for released in state.engine.released {
    let buffer = released.buffer(.now)
    let ages = Mirror(reflecting: released).children.filter { $0.label?.hasSuffix("ge") == true }
    lines.append("released \(words(buffer.id)) \(ages.map { words($0.value) })")
    lines.append("  description \(words(buffer.description))")
    lines.append("  frame \(buffer.frame) failure \(words(buffer.failure?.text))")
  }
  for domain in state.engine.domains {
    lines.append(
      "domain \(words(domain.domain)) \(words(domain.virtualMachine)) \(words(domain.counters.numbers))"
    )
  }
  return lines
}

private func words(_ value: Any?) -> String {
  guard let value else { return "none" }
  if let kind = value as? EventKind { return "\(kind.rawValue)" }
  if let id = value as? ConnectionID { return "\(id.rawValue)" }
  let mirror = Mirror(reflecting: value)
  switch mirror.displayStyle {
  case .optional: return mirror.children.first.map { words($0.value) } ?? "none"
  case .collection: return "[\(mirror.children.map { words($0.value) }.joined(separator: " "))]"
  case .set: return "{\(mirror.children.map { words($0.value) }.sorted().joined(separator: " "))}"
  default: break
  }
  if mirror.children.isEmpty || value is any CustomStringConvertible { return "\(value)" }
  let parts = mirror.children.filter { $0.label != "created" && $0.label != "descriptorCount" }.map
  {
    "\($0.label ?? "")=\(words($0.value))"
  }
  return "(\(parts.joined(separator: " ")))"
}

extension Counters {
  fileprivate var numbers: [UInt64] {
    [requests, refused, limited, maps, shares, frames, refreshedBytes, late]
  }
}

/// States that the daemon of each released format has written, with all kinds of buffers,
/// connections and messages. The contents of each are next to it as text. A released format does
/// not change: every later version reads its file. `make test` with `FORMAT_SAMPLE` set to a path
/// writes a new one.
struct FormatTests {
  private static let directory = FilePath(#filePath).removingLastComponent().appending("Formats")

  private func bytes(of name: String) throws -> [UInt8] {
    let file = try FileDescriptor.open(Self.directory.appending(name), .readOnly)
    return try file.closeAfter {
      var bytes = [UInt8](repeating: 0, count: Int(try file.seek(offset: 0, from: .end)))
      // SAFETY: not more is read than there is room.
      let count = try unsafe bytes.withUnsafeMutableBytes { room in
        try unsafe file.read(fromAbsoluteOffset: 0, into: room)
      }
      try #require(count == bytes.count)
      return bytes
    }
  }

  @Test("is read, and has the expected contents", arguments: ServerState.formats)
  func isRead(_ format: UInt16) throws {
    let state = try ServerState(reading: bytes(of: "format-\(format).bin"))
    let expected = String(decoding: try bytes(of: "format-\(format).txt"), as: UTF8.self)
    #expect(
      lines(of: state).joined(separator: "\n").split(separator: "\n")
        == expected.split(separator: "\n"))
    // The sample contains each kind.
    let contents = state.engine.buffers.map(\.contents)
    #expect(
      contents.contains { if case .mapped(let it) = $0 { it.mechanism == .copy } else { false } })
    #expect(contents.contains { if case .releasing = $0 { true } else { false } })
    #expect(
      contents.contains { if case .shared(let it) = $0 { it.descriptorCount > 2 } else { false } })
    #expect(state.waits.count == 2)
    #expect(state.connections.contains { $0.waitingDescriptorCount > 0 })
    #expect(try ServerState(decoding: state.encoded) == state)
  }

  @Test("truncated anywhere, or with any byte changed, is refused", arguments: ServerState.formats)
  func damage(_ format: UInt16) throws {
    let whole = try bytes(of: "format-\(format).bin")
    for count in stride(from: 0, to: whole.count, by: 7) {
      #expect(throws: LiveUpdateError.self) { try ServerState(reading: Array(whole[..<count])) }
      var bytes = whole
      bytes[count] ^= UInt8(1 << (count % 8))
      #expect(throws: LiveUpdateError.self) { try ServerState(reading: bytes) }
    }
  }

  @Test(
    "truncated, or with a byte changed, and with a correct checksum, is read or refused",
    arguments: ServerState.formats)
  func sealedDamage(_ format: UInt16) throws {
    let body = try Array(bytes(of: "format-\(format).bin").dropFirst(12).dropLast(8))
    var count = 0
    func read(_ body: [UInt8]) {
      do throws(LiveUpdateError) {
        _ = try ServerState(reading: sealed(body, format))
        count += 1
      } catch {
        if "\(error)".contains("\n") { Issue.record("\(error)") }
      }
    }
    // Every third byte, with another start for each way to damage it.
    for (start, bits) in [UInt8(0xFF), 0x80, 1].enumerated() {
      for index in stride(from: start, to: body.count, by: 3) {
        var bytes = body
        bytes[index] ^= bits
        read(bytes)
      }
    }
    for end in stride(from: 0, to: body.count, by: 7) { read(Array(body[..<end])) }
    // Some changes of numbers and texts are valid.
    #expect(count > 0)
  }

  /// A body with the frame of that format and a correct checksum.
  private func sealed(_ body: [UInt8], _ format: UInt16 = StateEncoder.format) -> [UInt8] {
    var encoder = StateEncoder()
    encoder.append(body)
    return encoder.seal(ServerState.kind, format: format)
  }

  /// The state of a small service, with an additional record in the middle.
  private func state(with tag: StateTag) -> [UInt8] {
    var encoder = StateEncoder()
    encoder.write(ServerState.Field.configuration, "users = 1\n")
    let engine = encoder.begin(ServerState.Field.engine)
    encoder.write(EngineState.Field.time, 7)
    encoder.write(tag, 1234)
    encoder.end(engine)
    encoder.write(ServerState.Field.lastConnection, 3)
    encoder.write(tag, 1234)
    return encoder.seal(ServerState.kind)
  }

  @Test("an unknown optional record is skipped, and a missing record has its default")
  func unknown() throws {
    let state = try ServerState(reading: state(with: 100))
    #expect(state.configuration == "users = 1\n")
    #expect(state.engine.time == 7)
    #expect(state.lastConnection == 3)
    #expect(state.engine.counters == Counters())
    #expect(state.socketPath == nil)
    #expect(state.engine.buffers.isEmpty)
  }

  @Test("an unknown mandatory record is refused")
  func required() throws {
    let bytes = state(with: 0x8064)
    #expect(throws: LiveUpdateError.unknownRecord(100)) { try ServerState(reading: bytes) }
  }

  @Test("a missing record without a default is refused")
  func missing() throws {
    var encoder = StateEncoder()
    encoder.write(ServerState.Field.configuration, "")
    let bytes = encoder.seal(ServerState.kind)
    #expect(throws: LiveUpdateError.damaged("record 5 is missing")) {
      try ServerState(reading: bytes)
    }
  }

  @Test("a record that appears twice, or after one of a higher number, is refused")
  func repeated() throws {
    for tags: [StateTag] in [[1, 1], [2, 1], [1, 0x8001], [0]] {
      var encoder = StateEncoder()
      for tag in tags { encoder.write(tag, 5) }
      let bytes = encoder.seal(ServerState.kind)
      #expect(throws: LiveUpdateError.self) { try ServerState(reading: bytes) }
    }
  }

  @Test("another format is refused by its number")
  func otherFormat() throws {
    #expect(throws: LiveUpdateError.format(9)) { try ServerState(reading: sealed([], 9)) }
  }

  @Test("writes a sample of the format to the path in FORMAT_SAMPLE")
  func write() throws {
    guard let path = Environment.value("FORMAT_SAMPLE") else { return }
    let stage = try ServerStage()
    let client = try stage.connect()
    let other = try stage.machine.addDomain()
    try client.done(TestClient.subscribe(domain: UInt32(stage.guest.id.rawValue)))
    let shared = try stage.share(pages: 3)
    let failing = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let copied = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let actors = try [BufferActors.Kind.mapped, .shared].map { kind in
      try BufferActors(kind, stage, client)
    }
    let owner = try ExportingGuest(stage, pages: 4, frame: 4096, name: "published")
    let published = try client.description(TestClient.mapPublished(owner.path))
    try owner.draw(page: 1)
    try stage.settle()
    let drawn = try client.description(
      TestClient.map(stage.guest.id, shared.directory, size: shared.byteCount) {
        $0.flags = XEN_ZCOPYD_PERSISTENT
        $0.picture.width = 32
        $0.picture.height = 16
        $0.picture.stride = 128
        $0.picture.format = 0x3432_5258
        setText(&$0.name, "a picture")
      })
    let peers = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    let peer = try ImportingGuest(stage.guest, try text(peers.0.text, "text"))
    try stage.settle()
    _ = try client.ask(TestClient.frame(peers.0.id, 5))
    try peer.use(5)
    try stage.settle()
    let memories = try [XEN_ZCOPYD_MEMORY_UDMABUF, XEN_ZCOPYD_MEMORY_HEAP].map { memory in
      try client.description(
        TestClient.share(other.id, size: 8192, memory: memory) {
          if memory == XEN_ZCOPYD_MEMORY_HEAP { setText(&$0.heap, "system") }
        })
    }
    let memory = try stage.backend.dmaBufs.allocate(byteCount: 8192, fromHeap: "system")
    try client.send(
      TestClient.share(other.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
      files: [memory.fileDescriptor])
    try stage.settle()
    let (closed, held) = try stage.map(shared, for: client)
    _ = try client.ask(TestClient.about(closed, XEN_ZCOPYD_UNMAP))
    try client.send(TestClient.wait(closed))
    try client.send(TestClient.wait(actors[0].id, milliseconds: 100_000))
    let (gone, last) = try stage.map(shared, for: client)
    last.closeFiles()
    _ = try client.ask(TestClient.about(gone, XEN_ZCOPYD_UNMAP))
    try stage.settle()
    stage.service.engine.buffers[BufferID(published.0.id)]?.usedFrame = 7
    // A client that does not read.
    let lazy = try stage.connect()
    let connection = try #require(stage.service.connections[stage.service.lastConnection])
    while connection.backlog.isEmpty { connection.send([UInt8](repeating: 7, count: 1000)) }
    try lazy.send(TestClient.map(stage.guest.id, shared.directory, size: shared.byteCount))
    try stage.wait("no file is queued") { connection.backlog.contains { $0.file != nil } }
    connection.send(event: EventMessage(.frame, BufferID(peers.0.id), .dom0))
    stage.backend.inject(.errno(.ioError).first(1), into: .dmaBufs(.identify))
    var (state, descriptors) = stage.service.saveState()
    #expect(state.descriptorCount == descriptors.count)
    state.configuration = "buffers = 100\n"
    state.socketPath = "/run/xen-zcopyd/socket"
    state.places = [0, 1, 2, 1, 3]
    state.droppedClients = 2
    let bytes = state.encoded
    let again = try ServerState(decoding: bytes)
    #expect(try ServerState(decoding: again.encoded) == again)
    try write(bytes, to: path + ".bin")
    try write(Array((lines(of: again).joined(separator: "\n") + "\n").utf8), to: path + ".txt")
    _ = (failing, copied, drawn, memories, held, peer, lazy)
  }

  private func write(_ bytes: [UInt8], to path: String) throws {
    let file = try FileDescriptor.open(
      FilePath(path), .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    _ = try file.closeAfter { try file.writeAll(bytes) }
  }
}
