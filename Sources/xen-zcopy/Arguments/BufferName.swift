import ArgumentParser
import CZcopy

/// A buffer on the command line: its identifier, or as many of its first digits as tell it from all others.
struct BufferName: ExpressibleByArgument, Equatable {
  /// 4 to 32 hexadecimal digits in lower case.
  let digits: String

  init?(argument: String) {
    guard (4...32).contains(argument.utf8.count),
      argument.unicodeScalars.allSatisfy({ $0.isASCII && $0.properties.isASCIIHexDigit })
    else { return nil }
    digits = argument.lowercased()
  }

  /// The buffers there are, for the shell.
  static var defaultCompletionKind: CompletionKind {
    .custom { _, _, _ in
      let entries = try? DaemonConnection().list()
      return entries?.map { BufferIdentifier($0.id).description } ?? []
    }
  }

  /// The buffer that is meant.
  ///
  /// - Throws: `Failure` if no buffer that this user may see begins so, or several do; `DaemonError`.
  func resolve(_ daemon: DaemonConnection) throws -> BufferIdentifier {
    // A buffer that is released is in no list, and still known by its whole identifier.
    if let whole = BufferIdentifier(digits) { return whole }
    let found = try daemon.list().map { BufferIdentifier($0.id) }
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
