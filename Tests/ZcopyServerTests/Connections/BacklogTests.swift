import CZcopy
import SystemPackage
import Testing
import ZcopyBackend
@testable import ZcopyEngine

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("The queue of messages for a client")
struct BacklogTests {
  private static func event(_ kind: UInt32, _ byte: UInt8) -> Backlog.Message {
    Backlog.Message(
      bytes: [byte], file: nil,
      event: Backlog.EventKey(kind: EventKind(rawValue: kind), buffer: BufferID(high: 1, low: 2)))
  }

  private static func message(_ byte: UInt8) -> Backlog.Message {
    Backlog.Message(bytes: [byte], file: nil)
  }

  @Test("keeps the order of the messages")
  func order() {
    var backlog = Backlog()
    for byte in 0..<200 { backlog.append(Self.message(UInt8(byte))) }
    for byte in 0..<200 {
      #expect(backlog.count == 200 - byte)
      #expect(backlog.bytes == 200 - byte)
      #expect(backlog.first?.bytes == [UInt8(byte)])
      backlog.removeFirst()
    }
    #expect(backlog.isEmpty && backlog.first == nil)
    backlog.removeFirst()
    #expect(backlog.isEmpty)
  }

  @Test("keeps only the last event of each kind, at its own place in the order")
  func replaces() {
    var backlog = Backlog()
    backlog.append(Self.event(1, 1))
    backlog.append(Self.event(2, 2))
    backlog.append(Self.message(3))
    backlog.append(Self.event(1, 4))
    #expect(backlog.messages.map(\.bytes) == [[2], [3], [4]])
    #expect(backlog.count == 3 && backlog.bytes == 3)
    backlog.removeFirst()
    #expect(
      !backlog.has(
        Backlog.EventKey(kind: EventKind(rawValue: 2), buffer: BufferID(high: 1, low: 2))))
    // A message that was sent has no place that another could take.
    backlog.append(Self.event(2, 5))
    #expect(backlog.messages.map(\.bytes) == [[3], [4], [5]])
  }

  @Test("stays small and correct when two kinds of events replace each other endlessly")
  func endless() {
    var backlog = Backlog()
    for byte in 0..<10 { backlog.append(Self.message(UInt8(byte))) }
    for round in 0..<10_000 { backlog.append(Self.event(UInt32(round % 2), UInt8(round % 200))) }
    #expect(backlog.count == 12)
    #expect(backlog.messages.map(\.bytes).suffix(2) == [[198], [199]])
    for _ in 0..<11 { backlog.removeFirst() }
    #expect(backlog.messages.map(\.bytes) == [[199]])
    backlog.append(Self.event(1, 7))
    #expect(backlog.messages.map(\.bytes) == [[7]])
  }
}
