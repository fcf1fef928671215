/// How much Xen lets this domain grant and map at the same time.
public struct GrantLimits: Equatable, Sendable {
  /// Frames of the grant table, with 512 entries each: pages that this domain grants.
  public let grantFrames: Int
  /// Frames of the maptrack table, with 256 entries each: pages of other domains that this one has mapped.
  public let maptrackFrames: Int

  /// These limits.
  public init(grantFrames: Int, maptrackFrames: Int) {
    self.grantFrames = grantFrames
    self.maptrackFrames = maptrackFrames
  }
}
