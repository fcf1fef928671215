import ArgumentParser
import ZcopyBackend
import ZcopyWire

/// A buffer on the command line: its identifier, or enough of its first digits to identify it.
struct BufferName: ExpressibleByArgument, Equatable {
  /// 4 to 32 hexadecimal digits in lower case.
  let digits: String

  init?(argument: String) {
    guard (4...32).contains(argument.utf8.count),
      argument.unicodeScalars.allSatisfy({ $0.isASCII && $0.properties.isASCIIHexDigit })
    else { return nil }
    digits = argument.lowercased()
  }

  /// The existing buffers, for the shell's completion.
  static var defaultCompletionKind: CompletionKind {
    .custom { _, _, _ in
      let entries = try? DaemonConnection().list()
      return entries?.map(\.id.description) ?? []
    }
  }

  /// The buffer with that name.
  ///
  /// - Throws: `Failure` if no visible buffer begins with the digits, or several do; `DaemonError`.
  func resolve(_ daemon: DaemonConnection) throws -> BufferID {
    // A released buffer is in no list, but the daemon still knows its whole identifier.
    if let whole = BufferID(digits) { return whole }
    let found = try daemon.list().map(\.id)
      .filter { $0.description.hasPrefix(digits) }
    guard let first = found.first else {
      throw Failure(
        "there is no buffer \(digits)…, or it is another user's; see `xen-zcopy list`")
    }
    guard found.count == 1 else {
      let all = found.map(\.description).joined(separator: ", ")
      throw Failure("\(found.count) buffers begin with \(digits); give more digits: \(all)")
    }
    return first
  }
}
