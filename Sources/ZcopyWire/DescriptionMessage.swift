package import CZcopy
package import Pixels
package import ZcopyBackend

/// Where the memory of a shared buffer comes from.
package enum MemoryKind: UInt32, CaseIterable {
  case udmabuf = 1
  case heap, descriptor, gntalloc
}

/// A buffer's memory, as its kind and its mechanism describe it.
package enum BufferMemory: Equatable {
  case mapped(by: Mechanism)
  case shared(from: MemoryKind)
}

/// The numbers that describe a buffer in DESCRIPTION and in LIST. Those of another release may be
/// unknown.
package protocol BufferNumbers: WireStructure {
  var wireID: xen_zcopyd_id { get set }
  var kindNumber: UInt32 { get set }
  var stateNumber: UInt32 { get set }
  var domain: UInt32 { get set }
  var pages: UInt32 { get set }
  var byteCount: UInt64 { get set }
  var ageMilliseconds: UInt64 { get set }
  var mechanismNumber: UInt32 { get set }
  var flags: BufferFlags { get set }
  var user: UInt32 { get set }
  /// 0 without a holder.
  var process: UInt32 { get set }
  var frame: UInt32 { get set }
  var name: FixedText<32> { get set }
}

extension BufferNumbers {
  package var id: BufferID {
    get { BufferID(wireID) }
    set { wireID = newValue.wire }
  }

  /// Nil for an unknown state.
  package var state: StateCode? {
    get { StateCode(rawValue: stateNumber) }
    set { stateNumber = newValue?.rawValue ?? 0 }
  }

  /// Sets the name, truncated at a character boundary if it is too long.
  package mutating func setName(_ name: String) { self.name = FixedText(name) }

  package var isMapped: Bool { kindNumber == XEN_ZCOPYD_KIND_MAPPED }

  /// Nil for an unknown mechanism.
  package var memory: BufferMemory? {
    get {
      switch kindNumber {
      case XEN_ZCOPYD_KIND_MAPPED: Mechanism(number: mechanismNumber).map { .mapped(by: $0) }
      case XEN_ZCOPYD_KIND_SHARED: MemoryKind(rawValue: mechanismNumber).map { .shared(from: $0) }
      default: nil
      }
    }
    set {
      (kindNumber, mechanismNumber) =
        switch newValue {
        case .mapped(let mechanism): (XEN_ZCOPYD_KIND_MAPPED, mechanism.number)
        case .shared(let memory): (XEN_ZCOPYD_KIND_SHARED, memory.rawValue)
        case nil: (0, 0)
        }
    }
  }
}

/// DESCRIPTION: the reply to requests that make or describe a buffer.
package struct DescriptionMessage: BufferNumbers {
  package typealias C = xen_zcopyd_description

  private var header = xen_zcopyd_header()
  package var wireID = xen_zcopyd_id()
  package var kindNumber: UInt32 = 0
  package var stateNumber: UInt32 = 0
  package var domain: UInt32 = 0
  package var directory: UInt32 = 0
  package var byteCount: UInt64 = 0
  package var offset: UInt64 = 0
  package var frameByteCount: UInt64 = 0
  package var inode: UInt64 = 0
  package var ageMilliseconds: UInt64 = 0
  package var stateMilliseconds: UInt64 = 0
  package var pages: UInt32 = 0
  package var mechanismNumber: UInt32 = 0
  package var flags: BufferFlags = []
  package var user: UInt32 = 0
  package var process: UInt32 = 0
  package var frame: UInt32 = 0
  package var directoryMicroseconds: UInt32 = 0
  package var mappingMicroseconds: UInt32 = 0
  var picture = xen_zcopyd_picture()
  package var name = FixedText<32>()
  package var text = FixedText<480>()

  package init() {}

  /// The reply to a request.
  package init(replyTo type: MessageType, _ request: RequestNumber) {
    header = ZcopyWire.header(reply: type, C.self, request)
  }

  /// Sets the text, truncated at a character boundary if it is too long.
  package mutating func setText(_ text: String) { self.text = FixedText(text) }

  /// The picture in each frame; nil without one, or if its format is unknown.
  package var geometry: PictureGeometry? {
    get { try? ZcopyWire.picture(picture) }
    set { picture = xen_zcopyd_picture(newValue) }
  }
}

/// A buffer in the reply to LIST.
package struct ListEntry: BufferNumbers {
  package typealias C = xen_zcopyd_list_entry

  package var wireID = xen_zcopyd_id()
  package var kindNumber: UInt32 = 0
  package var stateNumber: UInt32 = 0
  package var domain: UInt32 = 0
  package var pages: UInt32 = 0
  package var byteCount: UInt64 = 0
  package var ageMilliseconds: UInt64 = 0
  package var mechanismNumber: UInt32 = 0
  package var flags: BufferFlags = []
  package var user: UInt32 = 0
  package var process: UInt32 = 0
  package var frame: UInt32 = 0
  private var reserved: UInt32 = 0
  package var name = FixedText<32>()

  package init() {}
}
