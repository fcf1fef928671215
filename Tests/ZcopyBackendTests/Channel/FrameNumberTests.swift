import Testing
import ZcopyBackend

@Suite("A frame's number")
struct FrameNumberTests {
  @Test("is one more than the last, and skips 0, which is no frame")
  func next() {
    #expect(FrameNumber.none.next == 1)
    #expect(FrameNumber(rawValue: 41).next == 42)
    #expect(FrameNumber(rawValue: .max - 1).next == FrameNumber(rawValue: .max))
    #expect(FrameNumber(rawValue: .max).next == 1)
  }

  @Test(
    "is after the numbers that were counted before it, over the wrap too",
    arguments: [(2, 1), (1, 0), (1, .max), (5, .max - 5), (1 << 31, 1)] as [(UInt32, UInt32)])
  func order(later: UInt32, earlier: UInt32) {
    let (one, other) = (FrameNumber(rawValue: later), FrameNumber(rawValue: earlier))
    #expect(one.isAfter(other))
    #expect(!other.isAfter(one))
    #expect(!one.isAfter(one))
  }

  @Test("is printed as a number")
  func text() { #expect("frame \(FrameNumber(rawValue: 7))" == "frame 7") }
}
