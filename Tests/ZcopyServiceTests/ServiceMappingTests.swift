import CZcopy
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import ZcopyService

struct ServiceMappingTests {
  @Test("a directory becomes a dma-buf, which is released after UNMAP")
  func mapsAndUnmaps() throws {
    let stage = try Stage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 5)
    let (description, message) = try client.description(
      TestClient.map(stage.guest.id, shared.directory, size: 5 * 4096))
    #expect(description.kind == XEN_ZCOPYD_KIND_MAPPED)
    #expect(description.state == XEN_ZCOPYD_STATE_LIVE)
    #expect(description.pages == 5)
    #expect(description.mechanism == XEN_ZCOPYD_MECHANISM_DMABUF)
    #expect(message.files.count == 1)
    #expect(try client.list().map(\.pages) == [5])

    let unmapped = try client.ask(TestClient.about(description.id, XEN_ZCOPYD_UNMAP))
    #expect(try unmapped.header.type == XEN_ZCOPYD_UNMAP | XEN_ZCOPYD_REPLY)
    // The client still has it.
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_RELEASING])
    try message.takeFile().close()
    let event = try client.event()
    #expect(event.event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(BufferID(event.id) == BufferID(description.id))
    #expect(try client.list().isEmpty)
    // Who asks afterwards is told the same.
    let waited = try client.ask(TestClient.wait(description.id))
    #expect(try waited.header.type == XEN_ZCOPYD_WAIT | XEN_ZCOPYD_REPLY)
  }
}
