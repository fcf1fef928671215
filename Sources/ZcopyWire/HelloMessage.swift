import CZcopy

/// HELLO, and its reply.
package struct HelloMessage: BitwiseCopyable, Sendable {
  private var c: xen_zcopyd_hello

  init(_ message: borrowing MessageReader) throws(RequestError) {
    c = try message.whole(xen_zcopyd_hello.self)
    // In another version these fields may have a meaning.
    if c.version == XEN_ZCOPYD_VERSION { try expectZero(c.process, c.reserved) }
  }

  /// The reply of the daemon with that process id.
  package init(replyTo request: RequestNumber, process: Int32) {
    c = xen_zcopyd_hello()
    c.header = header(reply: .hello, xen_zcopyd_hello.self, request)
    c.magic = XEN_ZCOPYD_MAGIC
    c.version = XEN_ZCOPYD_VERSION
    c.process = UInt32(bitPattern: process)
  }

  /// Checks that the client speaks this version of the protocol.
  ///
  /// - Throws: `RequestError` with `.message` or `.version`.
  package func check() throws(RequestError) {
    guard c.magic == XEN_ZCOPYD_MAGIC else {
      throw .message("HELLO begins with 0x\(String(c.magic, radix: 16))")
    }
    guard c.version == XEN_ZCOPYD_VERSION else {
      throw RequestError(
        .version, nil,
        "the client speaks version \(c.version), and this daemon \(XEN_ZCOPYD_VERSION)")
    }
  }
}
