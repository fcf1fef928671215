/// How much may be in use, for one domain or for all together; 0 where there is no limit.
public struct ResourceLimits: Equatable, Sendable {
  /// Bytes of buffers.
  public var bytes: UInt64
  /// Buffers.
  public var buffers: UInt32
  /// Pages of grant directories.
  public var directoryPages: UInt32
  /// Requests a second; as many may come at once after a second of quiet.
  public var requestsPerSecond: UInt32
  /// The share of a limit, in percent, above which there is a warning; 0 for none.
  public var softPercent: UInt32

  /// These limits.
  public init(
    bytes: UInt64, buffers: UInt32, directoryPages: UInt32, requestsPerSecond: UInt32,
    softPercent: UInt32
  ) {
    self.bytes = bytes
    self.buffers = buffers
    self.directoryPages = directoryPages
    self.requestsPerSecond = requestsPerSecond
    self.softPercent = softPercent
  }

  /// No limit at all.
  public static let unlimited = ResourceLimits(
    bytes: 0, buffers: 0, directoryPages: 0, requestsPerSecond: 0, softPercent: 0)

  /// The default for one domain: 32 pictures of 1920x1080, at more than 1000 frames a second.
  public static let oneDomain = ResourceLimits(
    bytes: 256 << 20, buffers: 64, directoryPages: 256, requestsPerSecond: 4000, softPercent: 80)

  /// The default for all domains together.
  ///
  /// Xen's default of 1024 maptrack frames maps 1 GiB at a time into this domain, disks and network
  /// interfaces of guests included, which keep a quarter of it.
  public static let allDomains = ResourceLimits(
    bytes: 768 << 20, buffers: 512, directoryPages: 2048, requestsPerSecond: 40_000, softPercent: 80
  )
}
