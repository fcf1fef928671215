public import DmaBuf
public import XenGrant

/// A call that a simulated process makes: into Xen, or into Linux for memory of its own.
public enum SimulatedCall: Hashable, Sendable {
  /// A call of the Xen libraries or of gntdev.
  case xen(XenError.Call)
  /// A call for memory files, dma-bufs and sync files.
  case dmaBufs(DmaBufError.Call)
}

extension SimulatedCall: CustomStringConvertible {
  /// The call by the name under which it is documented.
  public var description: String {
    switch self {
    case .xen(let call): call.rawValue
    case .dmaBufs(let call): call.rawValue
    }
  }
}
