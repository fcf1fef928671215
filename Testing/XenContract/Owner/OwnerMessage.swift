import SystemPackage
import XenGrant

/// The requests of a check to an owner in another domain: two XenStore nodes below the owner's
/// `data`.
///
/// The owner makes both. Domain 0 may write them without a permission. The request is a number that
/// counts up, a word and its numbers; the reply is that number and `ok` with numbers, or `error`
/// with the call that failed and its errno.
enum OwnerMessage {
  static let directory = "data/xen-zcopy-contract-owner"
  static let request = "request"
  static let reply = "reply"
  /// The owner's event channel port, which is notified after either node was written.
  static let port = "port"
  static let timeout: Int32 = 20_000
  /// Represents a missing port or byte.
  static let none = -1

  enum Operation: String {
    case share, unshare, mark, load, store, open, bind, notify, unmask, next, close, end
  }

  /// The words of a message.
  static func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

  static func failure(_ error: any Error) -> String {
    guard let error = error as? XenError else { return "error - 0" }
    return "error \(error.call.rawValue) \(error.errno.rawValue)"
  }

  /// The result in the words after a reply's number.
  static func numbers(_ words: ArraySlice<String>) throws -> [Int] {
    switch words.first {
    case "ok":
      return words.dropFirst().compactMap { Int($0) }
    case "error":
      let rest = Array(words.dropFirst())
      if rest.count == 2, let call = XenError.Call(rawValue: rest[0]), let number = Int32(rest[1]) {
        throw XenError(call, Errno(rawValue: number))
      }
      throw Failure(reason: "the owner failed: \(words.joined(separator: " "))")
    default: throw Failure(reason: "the owner sent a malformed reply")
    }
  }
}
