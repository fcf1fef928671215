import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

@Suite("A refusal")
struct RefusalTests {
  let client: Client
  let daemon: ScriptedDaemon

  init() throws {
    client = try Client()
    daemon = client.daemon
  }

  /// Each code of the protocol with its errno.
  static let allCodes: [(UInt32, Int32)] = [
    (XEN_ZCOPYD_E_MESSAGE, EPROTO), (XEN_ZCOPYD_E_VERSION, EPROTONOSUPPORT),
    (XEN_ZCOPYD_E_PERMISSION, EACCES), (XEN_ZCOPYD_E_UNKNOWN, ENOENT),
    (XEN_ZCOPYD_E_INVALID, EINVAL), (XEN_ZCOPYD_E_LIMIT, EDQUOT),
    (XEN_ZCOPYD_E_REFUSED, EBADMSG), (XEN_ZCOPYD_E_UNSUPPORTED, EOPNOTSUPP),
    (XEN_ZCOPYD_E_RESOURCES, ENOMEM), (XEN_ZCOPYD_E_BUSY, EBUSY),
    (XEN_ZCOPYD_E_TIMEOUT, ETIMEDOUT), (XEN_ZCOPYD_E_GONE, ESRCH),
    (XEN_ZCOPYD_E_UNAVAILABLE, ENODEV), (XEN_ZCOPYD_E_SLOW, ENOBUFS),
    (XEN_ZCOPYD_E_STOPPING, ESHUTDOWN), (XEN_ZCOPYD_E_FAILED, EIO),
  ]

  @Test(
    "has an errno for each code, the code and the text, and the connection stays open",
    arguments: allCodes)
  func codes(_ code: UInt32, _ error: Int32) throws {
    daemon.refuse(request: 2, code: code, "no: because")
    #expect(client.unmap() == (-1, error))
    #expect(client.code == code && client.error == "no: because")
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 3)
    #expect(client.unmap() == (0, 0))
  }

  @Test("with request 0 closes the connection, and the reason stays", arguments: allCodes)
  func ends(_ code: UInt32, _ error: Int32) throws {
    daemon.refuse(request: 0, code: code, "the end: because")
    #expect(client.unmap() == (-1, error))
    try client.expectEnded()
    #expect(client.code == code && client.error == "the end: because")
  }

  @Test("with an unknown code has the errno of a general failure")
  func unknownCode() {
    daemon.refuse(request: 2, code: 77, "something new")
    #expect(client.unmap() == (-1, EIO))
    #expect(client.code == 77)
  }

  @Test("is one line, whatever the daemon writes")
  func oneLine() {
    daemon.refuse(request: 2, code: XEN_ZCOPYD_E_FAILED, "two\nlines \u{1b}[31m")
    #expect(client.unmap() == (-1, EIO))
    #expect(client.error == "two?lines ?[31m")
  }

  @Test("of a list ends it")
  func list() {
    daemon.refuse(request: 2, code: XEN_ZCOPYD_E_PERMISSION, "no")
    var entries: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var count = 9
    #expect(unsafe client.call { unsafe xenzcopy_list($0, 3, &entries, &count) } == (-1, EACCES))
    #expect(unsafe entries == nil && count == 9)
  }

  @Test("of a wait comes from the daemon, and has the daemon's errno")
  func wait() {
    daemon.refuse(request: 2, code: XEN_ZCOPYD_E_TIMEOUT, "held by process 7")
    var buffer = id(1)
    #expect(unsafe client.call { unsafe xenzcopy_wait($0, &buffer, 5) } == (-1, ETIMEDOUT))
    #expect(client.error == "held by process 7")
  }

  @Suite("by the library, without a message that would close the connection")
  struct Here {
    let client: Client

    init() throws { client = try Client() }

    /// No message was sent: the next request has the number 2.
    private func expectNothingSent() throws {
      #expect(client.code == 0 && client.error.contains("does not belong"))
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 2)
      #expect(client.unmap() == (0, 0))
      #expect(try client.daemon.heard()?.load(xen_zcopyd_header.self).type == XEN_ZCOPYD_UNMAP)
    }

    @Test("covers references that are announced and missing, or present and not announced")
    func references() throws {
      var map = xen_zcopyd_map()
      map.reference_count = 1
      #expect(client.map(map) == (-1, EINVAL))
      map.reference_count = XEN_ZCOPYD_REFERENCES_MAX + 1
      #expect(
        client.map(map, Array(repeating: 1, count: Int(XEN_ZCOPYD_REFERENCES_MAX) + 1)) == (
          -1, EINVAL
        ))
      try expectNothingSent()
    }

    @Test("covers unterminated texts")
    func texts() throws {
      let long = String(repeating: "x", count: 256)
      var map = xen_zcopyd_map()
      put(long, into: &map.name)
      #expect(client.map(map) == (-1, EINVAL))
      var published = xen_zcopyd_map_published()
      put(long, into: &published.path)
      #expect(
        unsafe client.call { unsafe xenzcopy_map_published($0, &published, nil) } == (-1, EINVAL))
      for field in [\xen_zcopyd_share.heap, \.name, \.publish] {
        var share = xen_zcopyd_share()
        put(long, into: &share[keyPath: field])
        #expect(unsafe client.call { unsafe xenzcopy_share($0, &share, -1, nil) } == (-1, EINVAL))
      }
      try expectNothingSent()
    }

    @Test("covers a missing descriptor and an unexpected one")
    func descriptors() throws {
      var share = xen_zcopyd_share()
      #expect(unsafe client.call { unsafe xenzcopy_share($0, &share, 0, nil) } == (-1, EINVAL))
      share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
      #expect(unsafe client.call { unsafe xenzcopy_share($0, &share, -1, nil) } == (-1, EINVAL))
      try expectNothingSent()
    }

    @Test("covers too many ranges and missing ranges")
    func ranges() throws {
      var buffer = id(1)
      let ranges = [xen_zcopyd_range](repeating: xen_zcopyd_range(), count: 1025)
      for count in [1025, 1 << 32] {
        #expect(
          unsafe client.call { unsafe xenzcopy_refresh($0, &buffer, 0, ranges, count) } == (
            -1, EINVAL
          ))
      }
      #expect(
        unsafe client.call { unsafe xenzcopy_refresh($0, &buffer, 0, nil, 1) } == (-1, EINVAL))
      try expectNothingSent()
    }
  }

  @Test("of an invalid descriptor keeps the connection")
  func closedDescriptor() {
    var share = xen_zcopyd_share()
    share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
    #expect(unsafe client.call { unsafe xenzcopy_share($0, &share, 1 << 20, nil) } == (-1, EBADF))
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 3)
    #expect(client.unmap() == (0, 0))
  }

  @Test("of a time-out of 0 is EINVAL")
  func noTimeout() {
    #expect(unsafe client.call { unsafe xenzcopy_set_timeout($0, 0) } == (-1, EINVAL))
  }
}
