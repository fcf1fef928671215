import CZcopy
import SystemPackage
public import XenGrant

/// A publication of this domain in plain values. There are no descriptors.
public struct OwnPublicationState: LiveUpdateState {
  public static let kind: UInt16 = 6
  public let descriptorCount = 0
  /// The absolute path of its node.
  public let path: String
  let controlPage: GrantReference
  let port: EventChannelPort

  fileprivate init(_ publication: OwnPublication) {
    path = publication.path
    controlPage = publication.controlPage
    port = publication.port
  }

  enum Field {
    static let path: StateTag = 1
    static let controlPage: StateTag = 2
    static let port: StateTag = 3
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.path, path)
    encoder.write(Field.controlPage, controlPage.rawValue)
    encoder.write(Field.port, port.rawValue)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    path = try decoder.text(Field.path)
    guard path.hasPrefix("/"), !path.utf8.contains(0) else {
      throw .damaged("a publication's path is none")
    }
    controlPage = try decoder.reference(Field.controlPage)
    port = try decoder.port(Field.port)
  }
}

extension OwnPublication {
  /// The state from which a successor continues the publication. This value remains usable.
  public func saveState() -> LiveUpdate<OwnPublicationState> {
    LiveUpdate(OwnPublicationState(self), [])
  }

  /// Continues a publication of another process. The nodes name this process from now on.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - xen: this domain's Xen.
  /// - Throws: `LiveUpdateError.publication` if the nodes are missing or differ, as when another
  ///   process has published under the name since that process ended; `.xen`.
  public convenience init(resuming state: OwnPublicationState, xen: Xen) throws(LiveUpdateError) {
    let store = try lift(LiveUpdateError.xen, try xen.openStore())
    let isOurs = try lift(LiveUpdateError.xen, try Self.takeOver(state, store))
    guard isOurs else { throw .publication(path: state.path) }
    self.init(resuming: state, store)
  }

  /// Enters this process in the publication, if its other nodes are still the buffer's.
  private static func takeOver(
    _ state: OwnPublicationState, _ store: borrowing XenStore
  ) throws(XenError) -> Bool {
    try store.transaction { (transaction) throws(XenError) in
      guard
        try transaction.readIfPresent("\(state.path)/\(XEN_ZCOPY_NODE_CONTROL)")
          == state.controlPage.description,
        try transaction.readIfPresent("\(state.path)/\(XEN_ZCOPY_NODE_EVENT_CHANNEL)")
          == state.port.description
      else { return false }
      try transaction.write("\(state.path)/\(XEN_ZCOPY_NODE_PROCESS)", Publication.ownProcess)
      return true
    }
  }
}
