import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("Published buffers")
struct ServerChannelTests {
  // MARK: - The guest's

  @Test("MAP_PUBLISHED maps a guest's published buffer, and reports its frames with their pages")
  func framesOfAGuest() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage, pages: 4, frame: 2 * 4096)
    try owner.draw()
    let (reply, message) = try client.description(TestClient.mapPublished(owner.path))
    #expect(reply.frame_size == 8192)
    #expect(message.files.count == 1)
    // A frame that was drawn before the buffer was mapped.
    var event = try client.event(XEN_ZCOPYD_EVENT_FRAME)
    #expect((event.frame, event.page) == (1, 0))
    #expect(try owner.changes() == [.mapped])
    try owner.draw(page: 2)
    event = try client.event(XEN_ZCOPYD_EVENT_FRAME)
    #expect((event.frame, event.page) == (2, 2))
    #expect(BufferID(event.id) == BufferID(reply.id))
    #expect(event.domain == UInt32(stage.guest.id.rawValue))
    #expect(
      try client.description(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE)).0.frame == 2)
    let used = try client.ask(TestClient.frame(reply.id, 2)).load(xen_zcopyd_frame.self)
    #expect(used.frame == 2)
    #expect(try owner.changes() == [.used(frame: 2)])
    try owner.askBack()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_CLOSING)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNMAP))
    try stage.settle()
    // Not before the client has released the buffer.
    #expect(try owner.changes() == [])
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(try owner.changes() == [.released])
    try stage.expectNothingLeft()
  }

  @Test("a used frame is reported to the owner once no device uses the buffer any more")
  func usedFrameWaits() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let owner = try ExportingGuest(stage)
    let (reply, message) = try client.description(TestClient.mapPublished(owner.path))
    let file = try message.takeFile()
    _ = try owner.changes()
    let fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
    _ = try client.ask(TestClient.frame(reply.id, 1))
    _ = try client.ask(TestClient.frame(reply.id, 2))
    try stage.settle()
    #expect(try owner.changes() == [])
    fence.signal()
    try stage.wait("the frame is not reported") { try owner.changes() == [.used(frame: 2)] }
    try file.close()
  }

  @Test("MAP_PUBLISHED is refused where nothing, or nonsense, is published")
  func nonsense() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let owner = try ExportingGuest(stage)
    let home = "/local/domain/\(stage.guest.id)"
    for (path, code) in [
      ("", XEN_ZCOPYD_E_INVALID), ("data/zcopy/screen", XEN_ZCOPYD_E_INVALID),
      ("/tool/x", XEN_ZCOPYD_E_INVALID), ("\(home)/data/zcopy/none", XEN_ZCOPYD_E_REFUSED),
    ] {
      #expect(try client.refusal(TestClient.mapPublished(path)).code == code, "\(path)")
    }
    for (node, value) in [
      ("control-page", "60000"), ("event-channel", "4000"), ("size", "0"), ("size", "9999999"),
      ("directory", "0"), ("version", "2"), ("offset", "4096"), ("frame-size", "-1"),
    ] {
      let other = try ExportingGuest(stage, name: "other")
      try other.publish(node, value)
      let refusal = try client.refusal(TestClient.mapPublished(other.path))
      #expect(
        [XEN_ZCOPYD_E_REFUSED, XEN_ZCOPYD_E_INVALID].contains(refusal.code),
        "\(node): \(refusal)")
      #expect(try other.changes() != [.mapped])
      try other.withdraw()
      try stage.settle()
      try stage.expectNothingLeft()
    }
    _ = try client.description(TestClient.mapPublished(owner.path))
  }

  @Test(
    "a guest's frame outside of its buffer is not reported, and closes its link with one log line",
    arguments: [3, 4, 1 << 20, UInt32.max])
  func frameOutside(_ page: UInt32) throws {
    let recorder = Recorder()
    let stage = try ServerStage(logger: recorder.logger)
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage, pages: 4, frame: 2 * 4096)
    let (reply, _) = try client.description(TestClient.mapPublished(owner.path))
    try owner.draw(page: page)
    let event = try client.event()
    #expect(event.event == XEN_ZCOPYD_EVENT_PEER_GONE)
    #expect(BufferID(event.id) == BufferID(reply.id))
    #expect(recorder.lines(.warning).count == 1)
    // Frames drawn after that are ignored.
    try owner.draw()
    try stage.settle()
    #expect(client.hasNothing)
    let described = try client.description(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE)).0
    #expect((described.state, described.frame) == (XEN_ZCOPYD_STATE_LIVE, 0))
    #expect(try client.statistics()[0].counters.frames == 0)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNMAP))
    try stage.expectNothingLeft()
  }

  @Test("if a guest's frame was out of bounds before the mapping, PEER_GONE follows the reply")
  func frameOutsideBefore() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage)
    try owner.draw(page: 1)
    _ = try client.description(TestClient.mapPublished(owner.path))
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_GONE)
    try stage.settle()
    #expect(client.hasNothing)
  }

  @Test("a killed owner is reported as PEER_GONE, and its pages stay while they are mapped")
  func killedOwner() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage)
    let (reply, _) = try client.description(TestClient.mapPublished(owner.path))
    owner.process.kill()
    let event = try client.event(XEN_ZCOPYD_EVENT_PEER_GONE)
    #expect(BufferID(event.id) == BufferID(reply.id))
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LIVE])
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNMAP))
    try stage.expectNothingLeft()
  }

  @Test("a buffer that could not be connected or published causes no event and is not counted")
  func failedHalfway() throws {
    let recorder = Recorder()
    let stage = try ServerStage(logger: recorder.logger)
    let (client, witness) = (try stage.connect(), try stage.connect())
    try witness.done(TestClient.subscribe())
    try client.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage)
    try owner.publish("control-page", "60000")
    // Nothing may come before the ERROR, nor after it.
    try client.send(TestClient.mapPublished(owner.path))
    _ = try client.error(in: client.next())
    let publish = TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") }
    let (reply, _) = try client.description(publish)
    try client.send(publish)
    _ = try client.error(in: client.next())
    try stage.settle()
    #expect(client.hasNothing)
    #expect(witness.hasNothing)
    #expect(try client.list().map { BufferID($0.id) } == [BufferID(reply.id)])
    let all = try client.statistics()
    for counters in all.map(\.counters) { #expect((counters.maps, counters.shares) == (0, 1)) }
    #expect(recorder.lines(.info).count { $0.hasPrefix("mapped") || $0.hasPrefix("shared") } == 1)
  }

  // MARK: - The daemon's own

  @Test(
    "SHARE with a name publishes the buffer; frames, their use and the end pass both ways")
  func framesToAGuest() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let (reply, _) = try client.description(
      TestClient.share(stage.guest.id, size: 4 * 4096) {
        setText(&$0.publish, "picture")
        $0.frame_size = 8192
      })
    let path = try text(reply.text, "text")
    #expect(path == "/local/domain/0/data/zcopy/picture")
    let guest = try ImportingGuest(stage.guest, path)
    #expect(guest.publication.request.frameByteCount == 8192)
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_MAPPED)
    #expect(try guest.changes() == [])
    let drawn = try client.ask(TestClient.frame(reply.id, page: 2)).load(xen_zcopyd_frame.self)
    #expect(drawn.frame == 1)
    #expect(try guest.changes() == [.frame(1)])
    for page in [3, UInt32.max] {
      #expect(
        try client.refusal(TestClient.frame(reply.id, page: page)).code == XEN_ZCOPYD_E_INVALID)
    }
    try guest.use(1)
    let used = try client.event()
    #expect((used.event, used.frame) == (XEN_ZCOPYD_EVENT_USED, 1))
    #expect(try client.statistics()[0].counters.frames == 1)

    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    #expect(try guest.changes() == [.closing])
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_RELEASING])
    // A second frame is just as completed as the first one.
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    #expect(try client.refusal(TestClient.frame(reply.id)).code == XEN_ZCOPYD_E_GONE)
    try guest.release()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_RELEASED)
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.expectNothingLeft()
    // Nor is the timer that would have reported the guest as late.
    #expect(stage.loop.delayedCalls == 0)
    #expect(throws: PublicationError.self) { try ImportingGuest(stage.guest, path) }
  }

  @Test("a published name is not published twice, and a buffer without a peer ends immediately")
  func names() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let share = TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") }
    let (reply, _) = try client.description(share)
    let refusal = try client.refusal(share)
    #expect(refusal.code == XEN_ZCOPYD_E_FAILED)
    #expect(try client.list().count == 1)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    try stage.expectNothingLeft()
    _ = try client.description(share)
  }

  @Test("a killed peer is reported as PEER_GONE, and requests that waited for it are completed")
  func killedPeer() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let (reply, _) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    let path = try text(reply.text, "text")
    let first = try ImportingGuest(stage.guest, path)
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_MAPPED)
    first.kill()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_GONE)
    // Another peer can connect.
    let second = try ImportingGuest(stage.guest, path)
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_PEER_MAPPED)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    let wait = try client.send(TestClient.wait(reply.id))
    #expect(try !client.has { $0.request == wait })
    second.kill()
    #expect(try client.next { $0.request == wait }.header.type & XEN_ZCOPYD_REPLY != 0)
    try stage.expectNothingLeft()
  }
}
