import Picture
import Support
import SystemPackage
import XenGrant
import ZcopyBackend

extension MapParameters {
  /// Reports a directory that waits for the references of the other domain.
  func reportOffered(_ pages: Int, to output: Output) {
    output.report(
      "offered",
      "directory \(directory) waits for \(pages) references of domain \(domain): fill it there with "
        + "`xen-zcopy share --into-directory \(directory) --size \(byteCount) --domain <this one>`",
      [
        "domain": .number(Int(domain.rawValue)), "pages": .number(pages),
        "directory": .number(Int(directory.rawValue)),
      ])
  }
}

extension HostedBuffer {
  /// Reports a mapped buffer.
  func reportMapped(to output: Output) {
    let place = [
      identifier.map { "buffer \($0)" }, inode.map { "inode \($0)" },
      file.map { "file descriptor \($0.rawValue)" } ?? "no dma-buf",
    ].compactMap { $0 }.joined(separator: ", ")
    output.report(
      "mapped",
      "mapped \(pages) pages (\(parameters.byteCount) bytes) of domain \(parameters.domain) by \(mechanism): "
        + "\(place); directory \(directoryTime.inMilliseconds), mapping \(mappingTime.inMilliseconds)"
        + (passedOver.isEmpty ? "" : "; \(passedOver)"),
      withIdentifier([
        "domain": .number(Int(parameters.domain.rawValue)), "pages": .number(pages),
        "size": .number(parameters.byteCount), "offset": .number(parameters.offset),
        "mechanism": .string(mechanism),
        "passed_over": .list(passedOver.isEmpty ? [] : [.string(passedOver)]),
        "inode": inode.map { .number(Int(clamping: $0)) } ?? .null,
        "fd": file.map { .number(Int($0.rawValue)) } ?? .null,
        "directory_ms": .real(directoryTime.milliseconds),
        "mapping_ms": .real(mappingTime.milliseconds),
      ]))
  }

  /// Reports a mapped buffer whose pages are released.
  func reportReleased(_ waited: Duration, isOwnerNotified: Bool, to output: Output) {
    let domain = parameters.domain
    output.report(
      "released",
      "released the buffer of domain \(domain) in \(waited.inMilliseconds)"
        + (isOwnerNotified ? " and notified its owner" : ""),
      [
        "domain": .number(Int(domain.rawValue)), "release_ms": .real(waited.milliseconds),
        "owner_told": .bool(isOwnerNotified),
      ])
  }

  /// Reports a shared buffer.
  ///
  /// - Parameters:
  ///   - sharing: how long the host needed, without the contents.
  ///   - filling: how long drawing the contents took.
  func reportShared(_ sharing: Duration, _ filling: Duration, to output: Output) {
    let place =
      (identifier.map { "buffer \($0), " } ?? "") + "directory \(parameters.directory)"
    output.report(
      "shared",
      "shared \(pages) pages (\(parameters.byteCount) bytes) of \(mechanism) with domain \(parameters.domain): "
        + "\(place); memory \(sharing.inMilliseconds), contents \(filling.inMilliseconds)"
        + (path.map { "; published at \($0)" } ?? ""),
      withIdentifier([
        "domain": .number(Int(parameters.domain.rawValue)), "pages": .number(pages),
        "size": .number(parameters.byteCount), "memory": .string(mechanism),
        "directory": .number(Int(parameters.directory.rawValue)),
        "path": path.map { .string($0) } ?? .null,
        "memory_ms": .real(sharing.milliseconds), "contents_ms": .real(filling.milliseconds),
      ]))
  }

  private func withIdentifier(_ fields: [String: JSONValue]) -> [String: JSONValue] {
    var fields = fields
    if let identifier { fields["id"] = .string(identifier) }
    return fields
  }
}

extension MapSession.Plan {
  /// Reports a frame that was taken.
  func report(_ frame: FrameNumber, _ took: Duration, to output: Output) {
    let hasContents = drawing != nil || contents.isNeeded
    if follows {
      output.report(
        "frame", "frame \(frame)" + (hasContents ? ": contents \(took.inMilliseconds)" : ""),
        ["frame": .number(Int(frame.rawValue)), "contents_ms": .real(took.milliseconds)])
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
