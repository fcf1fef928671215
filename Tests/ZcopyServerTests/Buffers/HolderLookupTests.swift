import CZcopy
import DmaBuf
import Support
import Testing
@testable import ZcopyEngine
import XenGrant
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("The lookup of dma-buf holders")
struct HolderLookupTests {
  private final class Time {
    var now = BootClock.now
    var walks = 0
  }

  private static func lookup(
    _ time: Time, taking milliseconds: Int, _ holders: [UInt64: [DmaBufHolder]] = [:]
  ) -> HolderLookup {
    HolderLookup(now: { time.now }) {
      time.walks += 1
      time.now = time.now + .milliseconds(milliseconds)
      return holders
    }
  }

  @Test("walks /proc once for all buffers, and again after twenty times the duration of the walk")
  func walks() {
    let time = Time()
    let made = time.now - .seconds(1)
    var lookup = Self.lookup(time, taking: 100, [7: [.device("screen")]])
    for inode in 0..<64 as Range<UInt64> {
      #expect(
        lookup.holders(of: inode, madeAt: made) == (inode == 7 ? [.device("screen")] : []))
    }
    time.now = time.now + .milliseconds(1899)
    _ = lookup.holders(of: 7, madeAt: made)
    #expect(time.walks == 1)
    time.now = time.now + .milliseconds(1)
    _ = lookup.holders(of: 7, madeAt: made)
    #expect(time.walks == 2)
  }

  @Test("keeps its result for half a second if the walk is quick")
  func quick() {
    let time = Time()
    let made = time.now - .seconds(1)
    var lookup = Self.lookup(time, taking: 0)
    for (later, walks) in [(0, 1), (499, 1), (1, 2), (499, 2), (1, 3)] {
      time.now = time.now + .milliseconds(later)
      #expect(lookup.holders(of: 1, madeAt: made) == [])
      #expect(time.walks == walks)
    }
  }

  @Test("has no result for a buffer that is newer than the last walk, until the next walk")
  func newer() {
    let time = Time()
    var lookup = Self.lookup(time, taking: 10)
    #expect(lookup.holders(of: 1, madeAt: time.now) == [])
    #expect(lookup.holders(of: 2, madeAt: time.now) == nil)
    let made = time.now
    time.now = time.now + .milliseconds(500)
    #expect(lookup.holders(of: 2, madeAt: made) == [])
  }

  @Test("walks once for many buffers that are described or late at the same time")
  func service() throws {
    var configuration = Configuration.forTests
    configuration.defaults.releaseDeadline = .milliseconds(5)
    let stage = try ServerStage(configuration)
    let time = Time()
    stage.service.engine.holderLookup = Self.lookup(time, taking: 0)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    var messages: [ReceivedMessage] = []
    for _ in 0..<32 {
      let (id, message) = try stage.map(shared, for: client)
      messages.append(message)
      _ = try client.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE))
    }
    #expect(time.walks == 1)
    for id in try client.list().map(\.id) {
      try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    }
    for _ in 0..<32 { #expect(try client.event().event == XEN_ZCOPYD_EVENT_LATE) }
    #expect(time.walks == 1)
  }
}
