import CZcopy

/// The names and limits of the protocol.
package enum Wire {
  /// The path of the daemon's socket.
  package static let socketPath = XEN_ZCOPYD_SOCKET
  /// The environment variable in which one version of the daemon hands over descriptors to another.
  package static let handoverVariable = "XEN_ZCOPYD_HANDOVER"
  /// The number that stands for all domains.
  package static let anyDomain = XEN_ZCOPYD_ANY_DOMAIN
  /// The size of the longest message in bytes.
  package static let messageByteCount = Int(XEN_ZCOPYD_MESSAGE_MAX)
  /// The most references in one MAP.
  package static let referenceCount = Int(XEN_ZCOPYD_REFERENCES_MAX)
  /// The most requests of one client that may be without reply.
  package static let requestCount = Int(XEN_ZCOPYD_REQUESTS_MAX)
  /// The most bytes in replies to READ that the clients of one user may leave unreceived.
  package static let readByteCount = Int(XEN_ZCOPYD_READ_MAX)
  /// The most bytes in one WRITE.
  package static let writeByteCount = Int(XEN_ZCOPYD_WRITE_MAX)
  /// The flag of REFRESH that copies to the domain, not from it.
  package static let writeBack = XEN_ZCOPYD_WRITE_BACK
  /// The most bytes of the text of an error.
  package static let textByteCount = Int(XEN_ZCOPYD_TEXT_SIZE)

  /// Whether a field for names can hold a text.
  package static func fitsName(_ text: String) -> Bool { fits(text, XEN_ZCOPYD_NAME_SIZE) }

  /// Whether a field for paths can hold a text.
  package static func fitsPath(_ text: String) -> Bool { fits(text, XEN_ZCOPYD_PATH_SIZE) }

  private static func fits(_ text: String, _ size: UInt32) -> Bool {
    text.utf8.count < size && !text.utf8.contains(0)
  }
}

/// The type of a message.
package enum MessageType: UInt32, CaseIterable {
  case hello = 1
  case map, mapPublished, unmap, share, unshare, wait, refresh, read, describe, list, subscribe
  case frame, stats, open, write, publish
  case event = 0x4001
  case error
}

/// The code of an error, for programs.
package enum ErrorCode: UInt32, Sendable, CaseIterable {
  /// A malformed message, or another version of the protocol: the connection ends.
  case message = 1
  case version
  case permission
  /// There is no such buffer, or the client may not see it.
  case unknown
  case invalid, limit
  /// The domain's directory, publication or references are invalid.
  case refused
  case unsupported, resources, busy, timeout, gone, unavailable
  /// The client does not read its messages: the connection ends.
  case slow
  case stopping, failed
}

/// Kinds of events: the one of an event, or all that a client subscribes to.
package struct EventKind: OptionSet, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt32

  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let frame = EventKind(rawValue: XEN_ZCOPYD_EVENT_FRAME)
  package static let used = EventKind(rawValue: XEN_ZCOPYD_EVENT_USED)
  package static let released = EventKind(rawValue: XEN_ZCOPYD_EVENT_RELEASED)
  package static let late = EventKind(rawValue: XEN_ZCOPYD_EVENT_LATE)
  package static let peerMapped = EventKind(rawValue: XEN_ZCOPYD_EVENT_PEER_MAPPED)
  package static let peerGone = EventKind(rawValue: XEN_ZCOPYD_EVENT_PEER_GONE)
  package static let closing = EventKind(rawValue: XEN_ZCOPYD_EVENT_CLOSING)
  package static let domainGone = EventKind(rawValue: XEN_ZCOPYD_EVENT_DOMAIN_GONE)
  package static let peerReleased = EventKind(rawValue: XEN_ZCOPYD_EVENT_PEER_RELEASED)
  package static let all = EventKind(rawValue: XEN_ZCOPYD_EVENTS)
}

/// Flags of a buffer.
package struct BufferFlags: OptionSet, BitwiseCopyable, Sendable {
  package let rawValue: UInt32

  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The buffer outlives the connection.
  package static let persistent = BufferFlags(rawValue: XEN_ZCOPYD_PERSISTENT)
  /// The references are listed in the peer's directory.
  package static let peersDirectory = BufferFlags(rawValue: XEN_ZCOPYD_PEERS_DIRECTORY)
}

/// The state of a buffer.
package enum StateCode: UInt32, CaseIterable {
  case live = 1
  case releasing, late, released
}
