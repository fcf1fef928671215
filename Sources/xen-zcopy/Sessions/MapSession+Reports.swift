import Picture
import XenGrant

extension MapSession.Plan {
  /// Reports a frame that was taken.
  ///
  /// - Parameter hasContents: whether its contents were read or drawn.
  func report(_ frame: UInt32, _ took: Duration, hasContents: Bool, to output: Output) {
    if follows {
      output.report(
        "frame", "frame \(frame)" + (hasContents ? ": contents \(took.inMilliseconds)" : ""),
        ["frame": .number(Int(frame)), "contents_ms": .real(took.milliseconds)])
    } else if hasContents {
      let what = [drawing.map { "are \($0) now" }, contents.summary]
        .compactMap { $0 }.joined(separator: ", ")
      output.report(
        "contents", "contents \(what): \(took.inMilliseconds)",
        [
          "path": contents.path.map { .string($0) } ?? .null,
          "verified": contents.pattern.map { .string($0.rawValue) } ?? .null,
          "drawn": .bool(drawing != nil), "contents_ms": .real(took.milliseconds),
        ])
    }
  }

  /// Reports the program's exit.
  func reportEnd(of code: Int32, to output: Output) {
    output.report(
      "exec", code == 0 ? nil : "\(program.first ?? "") ended with exit code \(code)",
      ["code": .number(Int(code))])
  }
}

extension MapSession.End {
  /// Why the session ended, for people and in JSON; nil if it completed.
  func reason(_ domain: DomainID) -> (text: String, code: String)? {
    switch self {
    case .done: nil
    case .signal(let number): ("ended by signal \(number)", "signal")
    case .ownerClosing: ("the owner in domain \(domain) closes the buffer", "owner-closing")
    case .ownerDied: ("the owner's process in domain \(domain) has ended", "owner-died")
    case .domainGone: ("domain \(domain), whose buffer it is, has ended", "domain-gone")
    }
  }
}
