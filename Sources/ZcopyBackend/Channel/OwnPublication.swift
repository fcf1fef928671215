import CZcopy
import SystemPackage
public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// This domain's publication of a shared buffer, until it is withdrawn.
///
/// A process that is killed leaves its nodes behind. They name the process. The next process that
/// publishes under the same name sees that no process serves them, and replaces them.
public final class OwnPublication {
  /// The absolute path of its node.
  public let path: String
  /// The control page that is published.
  let controlPage: GrantReference
  /// The event channel that is published.
  let port: EventChannelPort
  private let store: XenStore
  private var isPublished = true

  /// Publishes a buffer for the channel's peer.
  ///
  /// - Parameters:
  ///   - name: 1 to 31 letters, digits, `-` and `_`.
  ///   - request: directory, size and picture; the domain is the channel's peer.
  ///   - channel: the channel, with its control page and event channel.
  ///   - xen: this domain's Xen.
  /// - Throws: `XenError` with EINVAL for another name, EEXIST if a running process publishes under it, EACCES if this
  ///   domain may not write there.
  public init(
    _ name: String, request: MapParameters, channel: borrowing ExporterChannel, xen: Xen
  ) throws(XenError) {
    guard let path = Publication.path(for: name) else {
      throw XenError(.write, .invalidArgument, subject: .path(name))
    }
    let store = try xen.openStore()
    let owner = try store.ownDomain()
    // Absolute, because /local/domain/0 is dom0's home only by name: its relative paths lie
    // elsewhere with some xenstored.
    let absolute = "\(XenStore.home(of: owner))/\(path)"
    let publication = Publication(
      request: request, controlPage: channel.controlPage, port: channel.port)
    try publication.write(to: absolute, in: store, owner: owner, peer: channel.peer)
    self.path = absolute
    controlPage = channel.controlPage
    port = channel.port
    self.store = store
  }

  /// Nodes that a successor continues.
  init(resuming state: OwnPublicationState, _ store: consuming XenStore) {
    path = state.path
    controlPage = state.controlPage
    port = state.port
    self.store = store
  }

  deinit { withdraw() }

  /// Leaves the nodes to a successor, which puts its own process in them.
  public func relinquish() { isPublished = false }

  /// Takes the nodes away; safe to call again.
  public func withdraw() {
    guard isPublished else { return }
    isPublished = false
    // Nothing else can be done about a XenStore that does not answer, and the nodes name this process.
    try? store.remove(path)
  }
}

extension Publication {
  /// The process that serves a publication of this domain, or nil if it has ended.
  static func server(_ text: String?) -> Int32? {
    guard let text, let process = Int32(text), process > 0, kill(process, 0) == 0 || errno != ESRCH
    else { return nil }
    return process
  }

  /// This process, as it stands in the nodes.
  static var ownProcess: String { "\(getpid())" }
}
