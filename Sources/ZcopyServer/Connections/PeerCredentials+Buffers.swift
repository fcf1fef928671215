import Logging
import ZcopyEngine

extension PeerCredentials {
  /// Whether this client may end, await and read a buffer of that maker: its own user's buffers,
  /// and for root all.
  func mayChange(_ maker: BufferMaker) -> Bool { user == 0 || user == maker.user }

  /// This client, as a buffer's maker.
  var maker: BufferMaker { BufferMaker(process: process, user: user) }
}

extension PeerCredentials: CustomStringConvertible {
  /// For the journal.
  public var description: String { "process \(process) of user \(user)" }

  /// Fields for the journal. The rate limit by user keeps one user from filling it.
  var metadata: Logger.Metadata { ["user": "\(user)"] }
}
