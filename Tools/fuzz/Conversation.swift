import CZcopy
import ZcopyTestKit

/// The client's knowledge, from which its valid messages are made.
struct Knowledge {
  var domain: UInt32
  var directory: UInt32
  var size: UInt64
  var references: [UInt32]
  /// The buffers that the guest publishes, and their paths.
  var path: String
  /// The first page of a directory that the guest offers to be filled, and the number of bytes that
  /// it can list.
  var offered: UInt32
  var offeredSize: UInt64
  /// The last buffers that were made.
  var buffers: [xen_zcopyd_id] = []

  /// Remembers a buffer, and forgets an old one.
  mutating func remember(_ id: xen_zcopyd_id, _ random: inout RepeatableNumbers) {
    if buffers.count < 24 {
      buffers.append(id)
    } else {
      buffers[random.below(buffers.count)] = id
    }
  }
}

/// A message that a client might send, and the descriptors sent with it.
struct Message {
  var bytes: [UInt8]
  var takesDmaBuf = false

  init<Structure: BitwiseCopyable>(
    _ type: UInt32, _ structure: Structure, followedBy rest: [UInt8] = []
  ) {
    bytes = message(type, request: 1, structure, then: rest)
  }
}

extension Message {
  static func hello() -> Message {
    var hello = xen_zcopyd_hello()
    hello.magic = XEN_ZCOPYD_MAGIC
    hello.version = XEN_ZCOPYD_VERSION
    return Message(XEN_ZCOPYD_HELLO, hello)
  }

  /// A valid message.
  static func valid(_ known: Knowledge, _ random: inout RepeatableNumbers) -> Message {
    let id = known.buffers.isEmpty ? xen_zcopyd_id() : random.one(of: known.buffers)
    var message: Message
    switch random.below(23) {
    case 0, 1: message = map(known, &random)
    case 2: message = published(known, &random)
    case 3, 4: message = share(known, &random)
    case 5...7: message = about(id, random.one(of: [XEN_ZCOPYD_UNMAP, XEN_ZCOPYD_UNSHARE]))
    case 8: message = about(id, XEN_ZCOPYD_DESCRIBE)
    case 9: message = about(id, XEN_ZCOPYD_OPEN)
    case 10:
      var wait = xen_zcopyd_wait()
      wait.id = id
      wait.timeout_ms = random.one(of: [0, 1, 50, 4_000_000_000, .max])
      message = Message(XEN_ZCOPYD_WAIT, wait)
    case 11, 12: message = refresh(id, known, &random)
    case 13:
      var read = xen_zcopyd_read()
      read.id = id
      read.range = range(known, &random)
      message = Message(XEN_ZCOPYD_READ, read)
    case 14, 15: message = write(id, known, &random)
    case 16:
      var publish = xen_zcopyd_publish()
      publish.id = id
      publish.publish.0 = random.one(of: [0x61, 0x62, 0x63])
      message = Message(XEN_ZCOPYD_PUBLISH, publish)
    case 17:
      var list = xen_zcopyd_list()
      list.domain = random.one(of: [XEN_ZCOPYD_ANY_DOMAIN, known.domain])
      message = Message(XEN_ZCOPYD_LIST, list)
    case 18:
      var subscribe = xen_zcopyd_subscribe()
      subscribe.events = UInt32(random.below(256))
      subscribe.domain = random.one(of: [XEN_ZCOPYD_ANY_DOMAIN, known.domain])
      subscribe.own = UInt32(random.below(2))
      message = Message(XEN_ZCOPYD_SUBSCRIBE, subscribe)
    case 19...21:
      var frame = xen_zcopyd_frame()
      frame.id = id
      frame.frame = UInt32(random.below(5))
      frame.page = UInt32(random.below(3))
      message = Message(XEN_ZCOPYD_FRAME, frame)
    default:
      message =
        random.oneIn(8) ? hello() : Message(XEN_ZCOPYD_STATS, xen_zcopyd_header())
    }
    // The client's number for it.
    Mutation.store(UInt32(truncatingIfNeeded: random.next()), at: 8, in: &message.bytes)
    return message
  }

  private static func about(_ id: xen_zcopyd_id, _ type: UInt32) -> Message {
    var request = xen_zcopyd_buffer_request()
    request.id = id
    return Message(type, request)
  }

  private static func map(_ known: Knowledge, _ random: inout RepeatableNumbers) -> Message {
    var map = xen_zcopyd_map()
    map.domain = known.domain
    map.size = known.size
    map.mechanism = UInt32(random.below(4))
    map.flags = random.oneIn(16) ? XEN_ZCOPYD_PERSISTENT : 0
    map.name.0 = 0x61
    guard random.oneIn(2) else {
      map.directory = known.directory
      return Message(XEN_ZCOPYD_MAP, map)
    }
    map.reference_count = UInt32(known.references.count)
    var list = [UInt8](repeating: 0, count: 4 * known.references.count)
    for (index, reference) in known.references.enumerated() {
      Mutation.store(reference, at: 4 * index, in: &list)
    }
    return Message(XEN_ZCOPYD_MAP, map, followedBy: list)
  }

  private static func published(_ known: Knowledge, _ random: inout RepeatableNumbers) -> Message {
    var map = xen_zcopyd_map_published()
    map.mechanism = UInt32(random.below(4))
    put(known.path, into: &map.path)
    return Message(XEN_ZCOPYD_MAP_PUBLISHED, map)
  }

  private static func share(_ known: Knowledge, _ random: inout RepeatableNumbers) -> Message {
    var share = xen_zcopyd_share()
    share.domain = known.domain
    share.size = random.one(of: [4096, 8192, 5 * 4096 - 1])
    share.memory = UInt32(random.below(5))
    share.flags = random.oneIn(16) ? XEN_ZCOPYD_PERSISTENT : 0
    if share.memory == XEN_ZCOPYD_MEMORY_HEAP {
      put("system", into: &share.heap)
    }
    if share.memory == XEN_ZCOPYD_MEMORY_DESCRIPTOR { share.size = random.one(of: [0, 8192]) }
    if random.oneIn(4) {
      share.flags |= XEN_ZCOPYD_PEERS_DIRECTORY
      share.directory = known.offered
      share.size = known.offeredSize
    } else if random.oneIn(4) {
      share.publish.0 = random.one(of: [0x61, 0x62, 0x63])
      if random.oneIn(2) { share.frame_size = 4096 }
    }
    var message = Message(XEN_ZCOPYD_SHARE, share)
    message.takesDmaBuf = share.memory == XEN_ZCOPYD_MEMORY_DESCRIPTOR
    return message
  }

  private static func range(_ known: Knowledge, _ random: inout RepeatableNumbers)
    -> xen_zcopyd_range
  {
    let start = UInt64(random.below(Int(known.size)))
    return xen_zcopyd_range(
      offset: start, length: UInt64(random.below(Int(known.size - start) + 1)))
  }

  private static func write(
    _ id: xen_zcopyd_id, _ known: Knowledge, _ random: inout RepeatableNumbers
  ) -> Message {
    var write = xen_zcopyd_write()
    write.id = id
    write.range = range(known, &random)
    write.range.length = min(max(1, write.range.length), UInt64(XEN_ZCOPYD_WRITE_MAX))
    return Message(
      XEN_ZCOPYD_WRITE, write, followedBy: [UInt8](repeating: 7, count: Int(write.range.length)))
  }

  private static func refresh(
    _ id: xen_zcopyd_id, _ known: Knowledge, _ random: inout RepeatableNumbers
  ) -> Message {
    var refresh = xen_zcopyd_refresh()
    refresh.id = id
    refresh.flags = UInt32(random.below(2))
    let count = random.below(4)
    refresh.range_count = UInt32(count)
    var list: [UInt8] = []
    for _ in 0..<count {
      list += ZcopyTestKit.bytes(of: range(known, &random))
    }
    return Message(XEN_ZCOPYD_REFRESH, refresh, followedBy: list)
  }
}
