/// The number of an entry in a domain's grant table: one page that it lets another domain use.
///
/// The number means something only together with the domain that granted it. The C type is `grant_ref_t`.
public struct GrantReference: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  /// The index into the granting domain's table. Entries 0 to 7 are reserved, so 0 ends lists.
  public let rawValue: UInt32

  /// The reference of that number. Only Xen knows whether it grants anything.
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Bytes of a granted page, on every machine and whatever the kernel's own page size is.
  ///
  /// The C constant is `XEN_PAGE_SIZE`.
  public static let pageSize = 4096

  /// How many granted pages hold that many bytes; nil for a negative count.
  public static func pages(for byteCount: Int) -> Int? {
    guard byteCount >= 0 else { return nil }
    return byteCount / pageSize + (byteCount % pageSize == 0 ? 0 : 1)
  }
}

extension GrantReference: CustomStringConvertible {
  /// The number.
  public var description: String { "\(rawValue)" }
}
