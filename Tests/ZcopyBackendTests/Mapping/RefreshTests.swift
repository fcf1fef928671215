import DmaBuf
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A refresh of a copy")
struct RefreshTests {
  /// A buffer of the guest's, its copy in domain 0, and what the copy must hold.
  private struct CopiedBuffer: ~Copyable {
    let stage: Stage
    let buffer: SharedBuffer
    let mapped: MappedBuffer
    let contents: any BufferContents
    let size: Int
    private(set) var model: [UInt8]
    private var seed = 0

    init(pages: Int, geometry: PictureGeometry? = nil, offset: Int = 0, frame: Int? = nil) throws {
      let stage = try Stage()
      let buffer = try stage.share(pages: pages)
      var request = stage.request(for: buffer)
      request.geometry = geometry
      request.offset = offset
      request.frameByteCount = frame
      let mapped = try stage.map(request, by: [.copy])
      contents = try mapped.mapContents(for: .readWrite)
      self.stage = stage
      self.buffer = buffer
      self.mapped = mapped
      size = pages * GrantReference.pageSize
      model = [UInt8](repeating: 0, count: size)
    }

    /// The owner draws over the whole buffer, and what it drew is expected in those places of the copy.
    mutating func draw(expecting ranges: [Range<Int>]) {
      seed += 1
      let drawn = sample(size, seed: seed)
      buffer.write(drawn, at: 0)
      for range in ranges { model.replaceSubrange(range, with: drawn[range]) }
    }

    /// Whether the copy, as the processor and as a device sees it, is what it must be.
    borrowing func isAsExpected() throws -> Bool {
      let file = try mapped.requireFile()
      let device = try stage.machine.bytes(ofDmaBuf: file)
      return contents.bytes(0..<size) == model && device == model
    }
  }

  static let lists: [[Range<Int>]] = [
    [0..<1], [4095..<4096], [4096..<4097], [4095..<4097], [4096..<8192], [0..<12288],
    [12287..<12288], [100..<9000], [10..<20, 15..<30], [15..<30, 10..<20], [10..<20, 20..<30],
    [20..<30, 10..<20], [0..<4096, 4096..<8192, 8192..<12288], [7..<7], [0..<0], [12288..<12288],
    [5..<5, 6..<8, 8..<8], [], [1..<2, 5000..<5001, 12000..<12288],
  ]

  @Test(
    "of ranges copies these bytes only, with edges, overlaps and empty ranges", arguments: lists)
  func ranges(ranges: [Range<Int>]) throws {
    var copied = try CopiedBuffer(pages: 3)
    copied.draw(expecting: ranges)
    copied.stage.machine.resetCalls()
    try copied.mapped.refresh(ranges)
    let isEmpty = ranges.allSatisfy { $0.isEmpty }
    #expect(copied.stage.machine.calls[.copy] == (isEmpty ? 0 : 1))
    #expect(try copied.isAsExpected())
  }

  @Test("copies the whole buffer by default")
  func whole() throws {
    var copied = try CopiedBuffer(pages: 3)
    copied.draw(expecting: [0..<12288])
    try copied.mapped.refresh()
    #expect(try copied.isAsExpected())
  }

  @Test(
    "and a write back of random ranges copy these bytes only",
    arguments: [1, 2, 3] as [UInt64])
  func random(seed: UInt64) throws {
    let stage = try Stage()
    let size = 5 * 4096
    let buffer = try stage.share(pages: 5)
    let mapped = try stage.map(buffer, by: .copy)
    let contents = try mapped.mapContents(for: .readWrite)
    var here = [UInt8](repeating: 0, count: size)
    var there = here
    for round in 0..<60 {
      var numbers = RepeatableNumbers(seed: seed &+ UInt64(round) << 32)
      let ranges = (0..<numbers.below(6)).map { _ in
        let start = numbers.below(size + 1)
        return start..<start + numbers.below(size - start + 1)
      }
      let drawn = sample(size, seed: 2 * round + 1)
      if numbers.below(2) == 0 {
        there = drawn
        buffer.write(drawn, at: 0)
        try mapped.refresh(ranges)
        for range in ranges { here.replaceSubrange(range, with: there[range]) }
      } else {
        here = drawn
        contents.write(drawn, at: 0)
        try mapped.writeBack(ranges)
        for range in ranges { there.replaceSubrange(range, with: here[range]) }
      }
      let isRight = contents.bytes(0..<size) == here && buffer.bytes() == there
      #expect(isRight, "seed \(seed), round \(round)")
      guard isRight else { return }
    }
  }

  @Test(
    "or a write back outside of the buffer is refused, and copies nothing",
    arguments: [
      -1..<1, 0..<12289, 12288..<12289, 12289..<12289, Int.min..<0, 0..<Int.max, Int.min..<Int.max,
      (Int.max - 1)..<Int.max,
    ])
  func outside(range: Range<Int>) throws {
    var copied = try CopiedBuffer(pages: 3)
    copied.draw(expecting: [])
    copied.stage.machine.resetCalls()
    let refusal = error { () throws(MapError) in try copied.mapped.refresh([0..<4, range]) }
    #expect(refusal == .rangeOutside(range, size: 12288))
    let back = error { () throws(MapError) in try copied.mapped.writeBack([0..<4, range]) }
    #expect(back == .rangeOutside(range, size: 12288))
    #expect(refusal.map { "\($0)" }?.contains("12288") == true)
    #expect(copied.stage.machine.calls.total == 0)
    #expect(try copied.isAsExpected())
  }

  /// Where the pixels of a rectangle lie.
  private func bytes(
    _ rectangle: PictureRectangle, _ geometry: PictureGeometry, from start: Int
  ) -> [Range<Int>] {
    (rectangle.y..<rectangle.y + rectangle.height).map { row in
      let first = start + row * geometry.stride + rectangle.x * 4
      return first..<first + rectangle.width * 4
    }
  }

  @Test(
    "of a rectangle copies its pixels only, with one call",
    arguments: [
      PictureRectangle(x: 0, y: 0, width: 1, height: 1),
      PictureRectangle(x: 99, y: 19, width: 1, height: 1),
      PictureRectangle(x: 10, y: 3, width: 50, height: 9),
      PictureRectangle(x: 0, y: 5, width: 100, height: 2),
      PictureRectangle(x: 0, y: 0, width: 100, height: 20),
      PictureRectangle(x: 0, y: 19, width: 100, height: 1),
    ], [400, 512])
  func rectangle(rectangle: PictureRectangle, stride: Int) throws {
    let geometry = try PictureGeometry(width: 100, height: 20, stride: stride)
    var copied = try CopiedBuffer(pages: 3, geometry: geometry, offset: 52)
    copied.draw(expecting: bytes(rectangle, geometry, from: 52))
    copied.stage.machine.resetCalls()
    try copied.mapped.refresh([rectangle])
    #expect(copied.stage.machine.calls[.copy] == 1)
    #expect(try copied.isAsExpected())
  }

  @Test("of rectangles of one frame of a pool copies them in that frame, and no other")
  func frame() throws {
    let geometry = try PictureGeometry(width: 40, height: 20)
    var copied = try CopiedBuffer(pages: 4, geometry: geometry, offset: 8, frame: 4096)
    let rectangles = [
      PictureRectangle(x: 1, y: 2, width: 3, height: 4),
      PictureRectangle(x: 30, y: 10, width: 10, height: 10),
    ]
    let start = 2 * 4096
    copied.draw(expecting: rectangles.flatMap { bytes($0, geometry, from: start + 8) })
    try copied.mapped.refresh(rectangles, ofFrameAt: start)
    #expect(try copied.isAsExpected())
    // A whole frame, as its page is announced.
    let data = try copied.mapped.request.data(ofFrameAt: 3)
    #expect(data == 3 * 4096 + 8..<4 * 4096)
    copied.draw(expecting: [data])
    try copied.mapped.refresh([data])
    #expect(try copied.isAsExpected())
    // A frame of which not all lies in the buffer.
    let refusal = error { () throws(MapError) in
      try copied.mapped.refresh(rectangles, ofFrameAt: 4 * 4096)
    }
    guard case .rangeOutside(_, 16384)? = refusal else {
      Issue.record("\(String(describing: refusal))")
      return
    }
  }

  @Test("of a rectangle outside of the picture, or without a picture, is refused")
  func badRectangle() throws {
    let geometry = try PictureGeometry(width: 10, height: 10)
    let outside = PictureRectangle(x: 5, y: 0, width: 6, height: 1)
    let copied = try CopiedBuffer(pages: 1, geometry: geometry)
    copied.stage.machine.resetCalls()
    let refusal = error { () throws(MapError) in
      try copied.mapped.refresh([PictureRectangle(x: 0, y: 0, width: 1, height: 1), outside])
    }
    #expect(refusal == .geometry(.rectangleOutside(outside, geometry)))
    let plain = try CopiedBuffer(pages: 1)
    let none = error { () throws(MapError) in
      try plain.mapped.refresh([PictureRectangle(x: 0, y: 0, width: 1, height: 1)])
    }
    #expect(none == .geometry(.noPicture))
    #expect(copied.stage.machine.calls.total == 0)
  }

  @Test("that Xen or Linux refuses names the page, and succeeds the next time")
  func refused() throws {
    var copied = try CopiedBuffer(pages: 3)
    copied.draw(expecting: [0..<12288])
    let second = copied.buffer.references[1]
    copied.stage.backend.inject(.status(.generalError, piece: 1), into: .xen(.copy))
    let refusal = error { () throws(MapError) in try copied.mapped.refresh() }
    #expect(
      refusal
        == .xen(
          XenError(
            .copy, .ioError, domain: copied.stage.guest.id, subject: .reference(second),
            status: .generalError)))
    copied.stage.backend.inject(.errno(.noMemory), into: .dmaBufs(.synchronize))
    let local = error { () throws(MapError) in try copied.mapped.refresh() }
    guard case .memory(let cause)? = local else {
      Issue.record("\(String(describing: local))")
      return
    }
    #expect(cause.call == .synchronize && cause.errno == .noMemory)
    try copied.mapped.refresh()
    #expect(try copied.isAsExpected())
  }

  @Test("is refused after the owner has withdrawn the buffer")
  func withdrawn() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    buffer.write([9], at: 0)
    let mapped = try stage.map(buffer, by: .copy)
    try buffer.withdraw()
    // Nothing of it is mapped here: the owner has its pages at once.
    #expect(stage.guest.census.grantsInUse == 0)
    #expect(try mapped.mapContents().bytes(0..<1) == [9])
    guard case .xen(let cause)? = error({ () throws(MapError) in try mapped.refresh() }) else {
      Issue.record("withdrawn pages were copied")
      return
    }
    #expect(cause.status == .generalError)
  }
}
