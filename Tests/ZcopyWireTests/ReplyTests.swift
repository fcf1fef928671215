import CZcopy
import Pixels
import Testing
import XenGrant
import ZcopyBackend

@testable import ZcopyWire

@Suite("Messages of the daemon")
struct ReplyTests {
  private let id = BufferID(high: 0x0102_0304_0506_0708, low: 0x090a_0b0c_0d0e_0f10)

  /// A message's bytes as the C structure, whose header has the length of the message.
  private func sent<Message: BitwiseCopyable, C: BitwiseCopyable>(
    _ message: Message, _ type: C.Type
  ) throws -> C {
    var bytes: [UInt8] = []
    append(message, to: &bytes)
    return try parsed(bytes, type)
  }

  private func parsed<C: BitwiseCopyable>(_ bytes: [UInt8], _ type: C.Type) throws -> C {
    // SAFETY: bytes have no padding that would be read.
    let (header, whole) = unsafe (
      bytes.span.bytes.load(xen_zcopyd_header.self), bytes.span.bytes.load(type)
    )
    #expect(Int(try #require(header).length) == bytes.count)
    return try #require(whole)
  }

  @Test("acknowledge, greet and answer FRAME")
  func small() throws {
    let done = try sent(Acknowledgement(.unmap, 7), xen_zcopyd_header.self)
    #expect(done.type == XEN_ZCOPYD_UNMAP | XEN_ZCOPYD_REPLY && done.request == 7)
    let hello = try sent(HelloMessage(replyTo: 1, process: 99), xen_zcopyd_hello.self)
    #expect(hello.header.type == XEN_ZCOPYD_HELLO | XEN_ZCOPYD_REPLY && hello.header.request == 1)
    #expect((hello.magic, hello.version) == (XEN_ZCOPYD_MAGIC, XEN_ZCOPYD_VERSION))
    #expect(hello.process == 99)
    let frame = try sent(FrameReply(id, frame: 3, page: 4, 8), xen_zcopyd_frame.self)
    #expect(frame.header.type == XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY && frame.header.request == 8)
    #expect(BufferID(frame.id) == id && frame.frame == 3 && frame.page == 4)
  }

  @Test("name an error's code and domain, and answer no request if the connection ends")
  func errors() throws {
    let error = RequestError(.limit, DomainID.dom0, "no")
    let message = try parsed(ErrorMessage(error, 5).bytes, xen_zcopyd_error.self)
    #expect(message.header.type == XEN_ZCOPYD_ERROR && message.header.request == 5)
    #expect(message.code == XEN_ZCOPYD_E_LIMIT && message.domain == 0)
    #expect(try text(message.text, "text") == "no")
    let end = try sent(ErrorMessage(.message("x"), 5), xen_zcopyd_error.self)
    #expect(end.header.request == 0 && end.domain == XEN_ZCOPYD_ANY_DOMAIN)
  }

  @Test("report events of buffers and domains")
  func events() throws {
    let message = EventMessage(.frame, id, .dom0, frame: 3, page: 4)
    #expect(message.kind == .frame && message.id == id)
    let event = try sent(message, xen_zcopyd_event.self)
    #expect(event.header.type == XEN_ZCOPYD_EVENT && event.header.request == 0)
    #expect(event.event == XEN_ZCOPYD_EVENT_FRAME && event.frame == 3 && event.page == 4)
    #expect(BufferID(event.id) == id && event.domain == 0)
    let end = try sent(
      EventMessage(endOf: try #require(DomainID(rawValue: 5))), xen_zcopyd_event.self)
    #expect(end.event == XEN_ZCOPYD_EVENT_DOMAIN_GONE && end.domain == 5)
    #expect(BufferID(end.id) == BufferID(high: 0, low: 0))
  }

  private func description(_ type: MessageType) throws -> DescriptionMessage {
    var description = DescriptionMessage(replyTo: type, 6)
    description.id = id
    description.memory = .mapped(by: .copy)
    description.state = .late
    description.pages = 3
    description.flags = .persistent
    description.geometry = try PictureGeometry(
      width: 8, height: 4, format: try #require(PixelFormat(code: 0x3432_5258)))
    description.setName("name")
    description.setText("text")
    return description
  }

  @Test("describe a buffer, as the C client receives it and as LIST has it")
  func descriptions() throws {
    let description = try description(.share)
    let c = try sent(description, xen_zcopyd_description.self)
    #expect(c.header.type == XEN_ZCOPYD_SHARE | XEN_ZCOPYD_REPLY && c.header.request == 6)
    #expect(c.kind == XEN_ZCOPYD_KIND_MAPPED && c.mechanism == XEN_ZCOPYD_MECHANISM_COPY)
    #expect(c.flags == XEN_ZCOPYD_PERSISTENT && c.picture.height == 4)
    let received = DescriptionMessage(c)
    #expect(received.geometry == description.geometry && received.text.printed == "text")
    #expect(received.id == id && received.state == .late && received.pages == 3)
    #expect(received.memory == .mapped(by: .copy) && received.name.printed == "name")
    var entry = ListEntry()
    entry.id = id
    entry.memory = .shared(from: .heap)
    entry.name = received.name
    let bytes = ListReply.bytes([entry], hasMore: true, 4)
    let list = try parsed(bytes, xen_zcopyd_list_reply.self)
    #expect(list.header.type == XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY && list.header.request == 4)
    #expect(list.count == 1 && list.more == 1)
    // SAFETY: bytes have no padding that would be read.
    let last = unsafe bytes.span.bytes.load(xen_zcopyd_list_entry.self, at: bytes.count - 104)
    let listed = ListEntry(try #require(last))
    #expect(listed.id == id && listed.memory == .shared(from: .heap))
    #expect(listed.name.printed == "name")
  }

  @Test("have the buffer that they made, while they are not sent")
  func unsent() throws {
    for (type, made) in [(MessageType.map, id), (.mapPublished, id), (.share, id), (.open, nil)] {
      var bytes: [UInt8] = []
      append(try description(type), to: &bytes)
      #expect(UnsentMessage(bytes).made == made && UnsentMessage(bytes).request == 6)
    }
    #expect(UnsentMessage([1, 2]).made == nil && UnsentMessage([]).request == 0)
  }

  @Test("have statistics, and whether more follow")
  func statistics() throws {
    var statistics = StatisticsMessage()
    #expect(statistics.isOfAll)
    statistics.domain = 5
    statistics.limits.softPercent = 80
    let c = try sent(statistics.reply(hasMore: true, 3), xen_zcopyd_stats.self)
    #expect(c.header.type == XEN_ZCOPYD_STATS | XEN_ZCOPYD_REPLY && c.header.request == 3)
    #expect(c.more == 1 && c.domain == 5 && c.limits.soft_percent == 80)
    #expect(!StatisticsMessage(c).isOfAll)
  }
}
