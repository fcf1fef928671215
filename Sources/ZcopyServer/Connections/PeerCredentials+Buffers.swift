import Logging
import ZcopyEngine

extension PeerCredentials {
  /// Whether this client may end, wait for and look into a buffer of that maker: its user's own, and for root everything.
  func mayChange(_ maker: BufferMaker) -> Bool { user == 0 || user == maker.user }

  /// This client, as a buffer's maker.
  var maker: BufferMaker { BufferMaker(process: process, user: user) }
}

extension PeerCredentials: CustomStringConvertible {
  /// For the journal.
  public var description: String { "process \(process) of user \(user)" }

  /// Fields for the journal, by which one user cannot fill it.
  var metadata: Logger.Metadata { ["user": "\(user)"] }
}
