import Logging

extension PeerCredentials {
  /// Whether this client may end, wait for and look into what another has made: its user's own, and for root everything.
  func mayChange(whatWasMadeBy maker: PeerCredentials) -> Bool {
    user == 0 || user == maker.user
  }
}

extension PeerCredentials: CustomStringConvertible {
  /// For the journal.
  public var description: String { "process \(process) of user \(user)" }

  /// Fields for the journal, by which one user cannot fill it.
  var metadata: Logger.Metadata { ["user": "\(user)"] }
}
