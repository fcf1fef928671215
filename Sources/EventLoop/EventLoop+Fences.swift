public import DmaBuf
public import SystemPackage

extension EventLoop {
  /// Calls the handler once when a sync file is signalled, also by an error; keeps the sync file until then.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  @discardableResult
  public func onSignalled(
    _ fence: consuming SyncFile, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    try once(fence.relinquish(), handler)
  }
}
