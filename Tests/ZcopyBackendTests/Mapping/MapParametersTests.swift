import Pixels
import Testing
import XenGrant
import ZcopyBackend

@Suite("A request to map")
struct MapParametersTests {
  private func request(
    _ byteCount: Int, offset: Int = 0, _ geometry: PictureGeometry? = nil
  ) -> MapParameters {
    MapParameters(
      domain: .dom0, directory: GrantReference(rawValue: 8), byteCount: byteCount, offset: offset,
      geometry: geometry)
  }

  @Test("needs at least one byte", arguments: [0, -1, .min])
  func size(byteCount: Int) {
    #expect(throws: MapError.directory(.emptyBuffer, .dom0)) { try request(byteCount).check() }
  }

  @Test(
    "has its offset inside of the buffer",
    arguments: [(1, 1), (4096, 4096), (4096, -1), (1, .max), (.max, .max), (1, .min)])
  func badOffset(byteCount: Int, offset: Int) {
    #expect(throws: MapError.offsetBeyondSize(offset: offset, size: byteCount)) {
      try request(byteCount, offset: offset).check()
    }
  }

  @Test("takes an offset up to the last byte", arguments: [(1, 0), (4096, 4095), (.max, .max - 1)])
  func goodOffset(byteCount: Int, offset: Int) throws {
    try request(byteCount, offset: offset).check()
  }

  @Test("has its picture behind the offset and inside of the buffer")
  func picture() throws {
    let geometry = try PictureGeometry(width: 4, height: 2, stride: 32)
    // The last row needs no padding.
    try request(48, geometry).check()
    try request(58, offset: 10, geometry).check()
    #expect(throws: MapError.geometry(.doesNotFit(geometry, offset: 0, size: 47))) {
      try request(47, geometry).check()
    }
    #expect(throws: MapError.geometry(.doesNotFit(geometry, offset: 11, size: 58))) {
      try request(58, offset: 11, geometry).check()
    }
    #expect(throws: MapError.geometry(.doesNotFit(geometry, offset: .max - 1, size: .max))) {
      try request(.max, offset: .max - 1, geometry).check()
    }
  }

  private func pool(_ byteCount: Int, frame: Int, offset: Int = 0) -> MapParameters {
    var request = request(byteCount, offset: offset)
    request.frameByteCount = frame
    return request
  }

  @Test(
    "of a pool has frames of at least one byte, and none larger than the buffer",
    arguments: [(8192, 0), (8192, -1), (8192, .min), (8192, 8193), (8192, .max), (1, 2)])
  func badFrame(byteCount: Int, frame: Int) {
    #expect(
      throws: MapError.frameOutside(.dom0, offset: 0, byteCount: frame, size: byteCount)
    ) { try pool(byteCount, frame: frame).check() }
  }

  @Test("of a pool has offset and picture inside of one frame")
  func frame() throws {
    try pool(8192, frame: 8192).check()
    try pool(8192, frame: 1).check()
    try pool(8192, frame: 100, offset: 99).check()
    #expect(throws: MapError.offsetBeyondSize(offset: 100, size: 100)) {
      try pool(8192, frame: 100, offset: 100).check()
    }
    let geometry = try PictureGeometry(width: 5, height: 5)
    var request = pool(8192, frame: 100)
    request.geometry = geometry
    try request.check()
    request.offset = 1
    #expect(throws: MapError.geometry(.doesNotFit(geometry, offset: 1, size: 100))) {
      try request.check()
    }
  }

  @Test("knows where a frame's data lies")
  func data() throws {
    #expect(try request(5000, offset: 7).data(ofFrameAt: 0) == 7..<5000)
    let pool = pool(5 * 4096, frame: 5000, offset: 7)
    #expect(try pool.data(ofFrameAt: 0) == 7..<5000)
    #expect(try pool.data(ofFrameAt: 1) == 4096 + 7..<4096 + 5000)
    // 3 * 4096 + 5000 is within the 20480 bytes.
    #expect(try pool.data(ofFrameAt: 3) == 12288 + 7..<12288 + 5000)
  }

  @Test(
    "refuses a frame that ends after the buffer", arguments: [4, 5, 6, 1 << 20, .max] as [UInt32])
  func frameOutside(page: UInt32) {
    #expect(
      throws: MapError.frameOutside(
        .dom0, offset: Int(page) * 4096, byteCount: 5000, size: 5 * 4096)
    ) { try pool(5 * 4096, frame: 5000).data(ofFrameAt: page) }
    // Where there is no pool, there is one frame.
    #expect(throws: MapError.self) { try request(5 * 4096).data(ofFrameAt: page) }
    #expect(throws: MapError.self) { try request(.max).data(ofFrameAt: page) }
  }
}
