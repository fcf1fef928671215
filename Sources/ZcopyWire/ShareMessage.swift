package import CZcopy
package import Pixels
package import XenGrant
package import ZcopyBackend

/// SHARE.
package struct ShareMessage {
  /// Where the memory comes from.
  package enum Memory: Equatable {
    case automatic
    case udmabuf
    case heap(String)
    case descriptor
    case gntalloc
  }

  package var domain: DomainID
  package var memory: Memory
  package var directory = ShareParameters.Directory.own
  /// Nil for all of a dma-buf that is sent with the message.
  package var byteCount: Int?
  package var offset = 0
  package var frameByteCount: Int?
  package var geometry: PictureGeometry?
  package var isPersistent = false
  package var name = ""
  /// The name under which it is published in XenStore; nil to leave it unpublished.
  package var publish: String?

  package init(_ domain: DomainID, _ memory: Memory) {
    self.domain = domain
    self.memory = memory
  }

  init(_ message: borrowing MessageReader) throws(RequestError) {
    let wish = try message.whole(xen_zcopyd_share.self)
    guard wish.flags & ~XEN_ZCOPYD_FLAGS == 0 else {
      throw .invalid("SHARE knows no flags \(wish.flags)")
    }
    domain = try DomainID(named: wish.domain)
    let heap = try text(wish.heap, "heap")
    guard heap.isEmpty == (wish.memory != XEN_ZCOPYD_MEMORY_HEAP) else {
      throw .invalid("SHARE takes the name of a heap with memory of a heap only")
    }
    switch wish.memory {
    case XEN_ZCOPYD_MEMORY_AUTO: memory = .automatic
    case XEN_ZCOPYD_MEMORY_UDMABUF: memory = .udmabuf
    case XEN_ZCOPYD_MEMORY_HEAP:
      guard case .heap(let name)? = MemorySource("heap:\(heap)") else {
        throw .invalid("no heap can have the name that SHARE gives")
      }
      memory = .heap(name)
    case XEN_ZCOPYD_MEMORY_DESCRIPTOR: memory = .descriptor
    case XEN_ZCOPYD_MEMORY_GNTALLOC: memory = .gntalloc
    default: throw .invalid("no memory has the number \(wish.memory)")
    }
    let isPeers = wish.flags & XEN_ZCOPYD_PEERS_DIRECTORY != 0
    guard isPeers == (wish.directory != 0) else {
      throw .invalid("SHARE takes a directory's reference with XEN_ZCOPYD_PEERS_DIRECTORY only")
    }
    directory = isPeers ? .peers(GrantReference(rawValue: wish.directory)) : .own
    byteCount = wish.size == 0 ? nil : try Int(size: wish.size)
    guard byteCount != nil || memory == .descriptor else {
      throw .invalid("SHARE needs a size, but for a dma-buf that is sent along")
    }
    offset = try Int(size: wish.offset)
    frameByteCount = wish.frame_size == 0 ? nil : try Int(size: wish.frame_size)
    geometry = try picture(wish.picture)
    isPersistent = wish.flags & XEN_ZCOPYD_PERSISTENT != 0
    name = try buffersName(wish.name)
    publish = try publicationName(wish.publish)
    guard publish == nil || !isPeers else {
      throw .invalid("what is listed in the peer's own directory is not published")
    }
  }

  /// The message for the client library.
  package var c: xen_zcopyd_share {
    var message = xen_zcopyd_share()
    message.domain = UInt32(domain.rawValue)
    message.size = UInt64(clamping: byteCount ?? 0)
    message.offset = UInt64(clamping: offset)
    message.frame_size = UInt64(clamping: frameByteCount ?? 0)
    message.flags = isPersistent ? XEN_ZCOPYD_PERSISTENT : 0
    if case .peers(let reference) = directory {
      message.directory = reference.rawValue
      message.flags |= XEN_ZCOPYD_PEERS_DIRECTORY
    }
    message.picture = xen_zcopyd_picture(geometry)
    message.memory =
      switch memory {
      case .automatic: XEN_ZCOPYD_MEMORY_AUTO
      case .udmabuf: XEN_ZCOPYD_MEMORY_UDMABUF
      case .heap: XEN_ZCOPYD_MEMORY_HEAP
      case .descriptor: XEN_ZCOPYD_MEMORY_DESCRIPTOR
      case .gntalloc: XEN_ZCOPYD_MEMORY_GNTALLOC
      }
    if case .heap(let heap) = memory { setText(&message.heap, heap) }
    setText(&message.name, name)
    if let publish { setText(&message.publish, publish) }
    return message
  }
}
