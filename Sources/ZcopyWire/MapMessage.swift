package import CZcopy
package import XenGrant
package import ZcopyBackend

/// How a buffer is mapped.
package struct MapOptions {
  /// Nil for the first mechanism that works.
  package let mechanism: Mechanism?
  package let isPersistent: Bool
  package let name: String

  package init(mechanism: Mechanism?, isPersistent: Bool, name: String) {
    self.mechanism = mechanism
    self.isPersistent = isPersistent
    self.name = name
  }

  init(_ mechanism: UInt32, _ flags: UInt32, _ name: String) throws(RequestError) {
    self.mechanism = mechanism == 0 ? nil : Mechanism(number: mechanism)
    guard self.mechanism != nil || mechanism == 0 else {
      throw .invalid("no mechanism has the number \(mechanism)")
    }
    guard flags & ~XEN_ZCOPYD_PERSISTENT == 0 else { throw .invalid("MAP knows no flags \(flags)") }
    isPersistent = flags & XEN_ZCOPYD_PERSISTENT != 0
    self.name = name
  }

  fileprivate var flags: UInt32 { isPersistent ? XEN_ZCOPYD_PERSISTENT : 0 }

  /// MAP_PUBLISHED with these options, for the client library.
  ///
  /// - Parameter path: the path of the publication.
  package func message(_ path: String) -> xen_zcopyd_map_published {
    var message = xen_zcopyd_map_published()
    message.mechanism = mechanism?.number ?? 0
    message.flags = flags
    setText(&message.name, name)
    setText(&message.path, path)
    return message
  }
}

/// MAP.
package struct MapMessage {
  package let request: MapParameters
  /// The references, if there is no directory.
  package let references: [GrantReference]?
  package let options: MapOptions

  package init(_ request: MapParameters, _ references: [GrantReference]?, _ options: MapOptions) {
    self.request = request
    self.references = references
    self.options = options
  }

  init(_ message: borrowing MessageReader) throws(RequestError) {
    let size = MemoryLayout<xen_zcopyd_map>.size
    let count = Int(try message.peek(xen_zcopyd_map.self).reference_count)
    guard count <= XEN_ZCOPYD_REFERENCES_MAX else {
      throw .message(
        "MAP has \(count) references; at most \(XEN_ZCOPYD_REFERENCES_MAX) are allowed")
    }
    let wish = try message.beginning(
      xen_zcopyd_map.self, followedBy: count * MemoryLayout<UInt32>.stride)
    try expectZero(wish.reserved)
    guard (wish.directory == 0) == (count > 0) else {
      throw .invalid("MAP takes a directory or references, one of both")
    }
    options = try MapOptions(wish.mechanism, wish.flags, try buffersName(wish.name))
    request = MapParameters(
      domain: try DomainID(named: wish.domain), directory: GrantReference(rawValue: wish.directory),
      byteCount: try Int(size: wish.size), offset: try Int(size: wish.offset),
      geometry: try picture(wish.picture))
    let references = message.elements(UInt32.self, count: count, after: size)
    self.references = count == 0 ? nil : references.map(GrantReference.init(rawValue:))
  }

  /// The message for the client library, without the references.
  package var c: xen_zcopyd_map {
    var message = xen_zcopyd_map()
    message.domain = UInt32(request.domain.rawValue)
    message.directory = request.directory.rawValue
    message.size = UInt64(clamping: request.byteCount)
    message.offset = UInt64(clamping: request.offset)
    message.mechanism = options.mechanism?.number ?? 0
    message.flags = options.flags
    message.picture = xen_zcopyd_picture(request.geometry)
    setText(&message.name, options.name)
    message.reference_count = UInt32(clamping: references?.count ?? 0)
    return message
  }
}

extension Mechanism {
  /// The mechanism with a number of the protocol; nil if there is none.
  package init?(number: UInt32) {
    switch number {
    case XEN_ZCOPYD_MECHANISM_DMABUF: self = .dmabuf
    case XEN_ZCOPYD_MECHANISM_COPY: self = .copy
    case XEN_ZCOPYD_MECHANISM_CPU: self = .cpu
    default: return nil
    }
  }

  /// The number in the protocol.
  var number: UInt32 {
    switch self {
    case .dmabuf: XEN_ZCOPYD_MECHANISM_DMABUF
    case .copy: XEN_ZCOPYD_MECHANISM_COPY
    case .cpu: XEN_ZCOPYD_MECHANISM_CPU
    }
  }
}
