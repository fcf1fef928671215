import Testing
import XenGrant
import ZcopyBackend

@Suite("A request to map")
struct MapRequestTests {
  private func request(
    _ byteCount: Int, offset: Int = 0, _ geometry: PictureGeometry? = nil
  ) -> MapRequest {
    MapRequest(
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
}
