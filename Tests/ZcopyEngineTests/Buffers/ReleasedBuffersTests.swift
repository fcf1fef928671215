import ZcopyBackend
import Testing
import XenGrant

@testable import ZcopyEngine

@Suite("The record of released buffers")
struct ReleasedBuffersTests {
  private func buffer() throws -> Buffer {
    let facts = BufferDescription(
      origin: .mapped(by: .copy), domain: .dom0,
      maker: BufferMaker(process: 1, user: 0), created: .now,
      directory: GrantReference(rawValue: 8), byteCount: 4096, pages: 1, directoryPages: 1,
      isPersistent: false, name: "")
    var source = BufferIDSource()
    let id = source.next()
    return Buffer(try #require(id), facts, holder: nil)
  }

  @Test("keeps the last thousand of them, in order")
  func order() throws {
    var released = ReleasedBuffers()
    #expect(released.all.isEmpty)
    let buffers = try (0..<ReleasedBuffers.capacity + 2).map { _ in try buffer() }
    for buffer in buffers.prefix(3) { released.add(buffer) }
    #expect(released.all.map(\.id) == buffers.prefix(3).map(\.id))
    for buffer in buffers.dropFirst(3) { released.add(buffer) }
    #expect(released.all.map(\.id) == buffers.dropFirst(2).map(\.id))
    #expect(released[buffers[1].id] == nil)
    #expect(released[buffers[2].id] === buffers[2])
  }
}
