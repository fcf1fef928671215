import CZcopy
import Testing
import ZcopyBackend

@testable import ZcopyWire

@Suite("Numbers of the protocol")
struct CodeTests {
  @Test("types of messages are those of the C header")
  func types() {
    #expect(
      MessageType.allCases.map(\.rawValue) == [
        XEN_ZCOPYD_HELLO, XEN_ZCOPYD_MAP, XEN_ZCOPYD_MAP_PUBLISHED, XEN_ZCOPYD_UNMAP,
        XEN_ZCOPYD_SHARE, XEN_ZCOPYD_UNSHARE, XEN_ZCOPYD_WAIT, XEN_ZCOPYD_REFRESH, XEN_ZCOPYD_READ,
        XEN_ZCOPYD_DESCRIBE, XEN_ZCOPYD_LIST, XEN_ZCOPYD_SUBSCRIBE, XEN_ZCOPYD_FRAME,
        XEN_ZCOPYD_STATS, XEN_ZCOPYD_OPEN, XEN_ZCOPYD_WRITE, XEN_ZCOPYD_PUBLISH, XEN_ZCOPYD_EVENT,
        XEN_ZCOPYD_ERROR,
      ])
    #expect("\(MessageType.mapPublished) \(MessageType.publish)" == "mapPublished publish")
  }

  @Test("codes of errors are those of the C header")
  func errors() {
    let codes: [ErrorCode: UInt32] = [
      .message: XEN_ZCOPYD_E_MESSAGE, .version: XEN_ZCOPYD_E_VERSION,
      .permission: XEN_ZCOPYD_E_PERMISSION, .unknown: XEN_ZCOPYD_E_UNKNOWN,
      .invalid: XEN_ZCOPYD_E_INVALID, .limit: XEN_ZCOPYD_E_LIMIT, .refused: XEN_ZCOPYD_E_REFUSED,
      .unsupported: XEN_ZCOPYD_E_UNSUPPORTED, .resources: XEN_ZCOPYD_E_RESOURCES,
      .busy: XEN_ZCOPYD_E_BUSY, .timeout: XEN_ZCOPYD_E_TIMEOUT, .gone: XEN_ZCOPYD_E_GONE,
      .unavailable: XEN_ZCOPYD_E_UNAVAILABLE, .slow: XEN_ZCOPYD_E_SLOW,
      .stopping: XEN_ZCOPYD_E_STOPPING, .failed: XEN_ZCOPYD_E_FAILED,
    ]
    #expect(codes.count == ErrorCode.allCases.count)
    for (code, number) in codes { #expect(code.rawValue == number) }
  }

  @Test("states, mechanisms, memory and flags of buffers are those of the C header")
  func buffers() {
    #expect(
      StateCode.allCases.map(\.rawValue) == [
        XEN_ZCOPYD_STATE_LIVE, XEN_ZCOPYD_STATE_RELEASING, XEN_ZCOPYD_STATE_LATE,
        XEN_ZCOPYD_STATE_RELEASED,
      ])
    #expect(
      MemoryKind.allCases.map(\.rawValue) == [
        XEN_ZCOPYD_MEMORY_UDMABUF, XEN_ZCOPYD_MEMORY_HEAP, XEN_ZCOPYD_MEMORY_DESCRIPTOR,
        XEN_ZCOPYD_MEMORY_GNTALLOC,
      ])
    #expect(
      Mechanism.allCases.map(\.number) == [
        XEN_ZCOPYD_MECHANISM_DMABUF, XEN_ZCOPYD_MECHANISM_COPY, XEN_ZCOPYD_MECHANISM_CPU,
      ])
    for mechanism in Mechanism.allCases {
      #expect(Mechanism(number: mechanism.number) == mechanism)
    }
    #expect(Mechanism(number: 0) == nil && Mechanism(number: .max) == nil)
    let flags: BufferFlags = [.persistent, .peersDirectory]
    #expect(flags.rawValue == XEN_ZCOPYD_FLAGS)
  }

  @Test("kinds of events are different bits, and together all that SUBSCRIBE accepts")
  func events() {
    let kinds: [EventKind] = [
      .frame, .used, .released, .late, .peerMapped, .peerGone, .closing, .domainGone, .peerReleased,
    ]
    #expect(Set(kinds).count == kinds.count && EventKind(kinds) == .all)
    #expect(kinds.allSatisfy { $0.rawValue.nonzeroBitCount == 1 })
    #expect(Subscription.initial.events == [.released, .late, .closing, .domainGone])
  }
}
