import CZcopy
import Pixels
import ZcopyBackend

/// The protocol's numbers in words.
enum BufferFormatter {
  /// Whether a buffer is mapped or shared.
  static func kind(_ kind: UInt32) -> String {
    kind == XEN_ZCOPYD_KIND_MAPPED ? "mapped" : "shared"
  }

  /// A buffer's state.
  static func state(_ state: UInt32) -> String {
    switch state {
    case XEN_ZCOPYD_STATE_LIVE: "live"
    case XEN_ZCOPYD_STATE_RELEASING: "releasing"
    case XEN_ZCOPYD_STATE_LATE: "late"
    case XEN_ZCOPYD_STATE_RELEASED: "released"
    default: "state \(state)"
    }
  }

  /// How a buffer was mapped, or where its memory comes from.
  static func mechanism(_ mechanism: UInt32, kind: UInt32) -> String {
    switch (kind, mechanism) {
    case (XEN_ZCOPYD_KIND_MAPPED, XEN_ZCOPYD_MECHANISM_DMABUF): "dmabuf"
    case (XEN_ZCOPYD_KIND_MAPPED, XEN_ZCOPYD_MECHANISM_COPY): "copy"
    case (XEN_ZCOPYD_KIND_MAPPED, XEN_ZCOPYD_MECHANISM_CPU): "cpu"
    case (XEN_ZCOPYD_KIND_SHARED, XEN_ZCOPYD_MEMORY_UDMABUF): "udmabuf"
    case (XEN_ZCOPYD_KIND_SHARED, XEN_ZCOPYD_MEMORY_HEAP): "heap"
    case (XEN_ZCOPYD_KIND_SHARED, XEN_ZCOPYD_MEMORY_DESCRIPTOR): "fd"
    case (XEN_ZCOPYD_KIND_SHARED, XEN_ZCOPYD_MEMORY_GNTALLOC): "gntalloc"
    default: "mechanism \(mechanism)"
    }
  }

  /// A kind of event.
  static func event(_ event: UInt32) -> String {
    switch event {
    case XEN_ZCOPYD_EVENT_FRAME: "frame"
    case XEN_ZCOPYD_EVENT_USED: "frame-used"
    case XEN_ZCOPYD_EVENT_RELEASED: "released"
    case XEN_ZCOPYD_EVENT_LATE: "late"
    case XEN_ZCOPYD_EVENT_PEER_MAPPED: "peer-mapped"
    case XEN_ZCOPYD_EVENT_PEER_GONE: "peer-gone"
    case XEN_ZCOPYD_EVENT_PEER_RELEASED: "peer-released"
    case XEN_ZCOPYD_EVENT_CLOSING: "owner-closing"
    case XEN_ZCOPYD_EVENT_DOMAIN_GONE: "domain-gone"
    default: "event \(event)"
    }
  }

  /// The picture in each frame; nil without one, or if its format is unknown.
  static func picture(_ picture: xen_zcopyd_picture) -> PictureGeometry? {
    guard picture.width > 0, let format = PixelFormat(code: picture.format) else { return nil }
    return try? PictureGeometry(
      width: Int(picture.width), height: Int(picture.height), format: format,
      stride: picture.stride == 0 ? nil : Int(picture.stride))
  }
}
