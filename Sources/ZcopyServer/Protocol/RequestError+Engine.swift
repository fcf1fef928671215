import ZcopyEngine
import ZcopyWire

extension RequestError {
  /// An error of the engine, with advice for the daemon's administrator.
  init(_ error: EngineError) {
    let (code, advice): (ErrorCode, String) =
      switch error.kind {
      case .invalid: (.invalid, "")
      case .limit: (.limit, "")
      case .bufferTooLarge:
        (.limit, "; raise max-buffer-bytes in the daemon's configuration")
      case .mechanismNotAllowed:
        (.permission, "; see `mechanisms` in the daemon's configuration")
      case .refused: (.refused, "")
      case .unsupported: (.unsupported, "")
      case .resources: (.resources, "")
      case .unavailable: (.unavailable, "")
      case .gone: (.gone, "")
      case .busy: (.busy, "")
      case .timeout: (.timeout, "")
      case .stopping: (.stopping, "")
      case .failed: (.failed, "")
      }
    self.init(code, error.domain, error.text + advice)
  }
}
