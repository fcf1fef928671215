/// What the kernel does when a mapping or a shared page is taken away, a killed process's too.
///
/// The C constants are `UNMAP_NOTIFY_CLEAR_BYTE` and `UNMAP_NOTIFY_SEND_EVENT`.
public struct UnmapNotification: Equatable, Sendable {
  /// The byte of the page that is set to 0, 0 to 4095; nil leaves the page alone.
  public let byteOffset: Int?
  /// The event channel that is notified; nil notifies none.
  public let port: EventChannelPort?

  /// What to do, at least one of the two.
  ///
  /// - Parameters:
  ///   - byteOffset: the byte to clear, 0 to 4095. An offset outside of the page makes nil.
  ///   - port: the event channel to notify, open on this domain's event channel device.
  public init?(clearing byteOffset: Int?, notifying port: EventChannelPort?) {
    if let byteOffset, !(0..<GrantReference.pageSize).contains(byteOffset) { return nil }
    if byteOffset == nil && port == nil { return nil }
    self.byteOffset = byteOffset
    self.port = port
  }
}
