/// Xen's result of one grant operation.
///
/// The C constants are `GNTST_*`.
public struct GrantStatus: RawRepresentable, Hashable, Sendable {
  /// 0 for success, negative otherwise.
  public let rawValue: Int16

  /// The status of that number.
  public init(rawValue: Int16) { self.rawValue = rawValue }

  /// Done. `GNTST_okay`.
  public static let okay = GrantStatus(rawValue: 0)
  /// Something that has no status of its own. `GNTST_general_error`.
  public static let generalError = GrantStatus(rawValue: -1)
  /// There is no such domain. `GNTST_bad_domain`.
  public static let badDomain = GrantStatus(rawValue: -2)
  /// Nothing is granted to us by that reference. `GNTST_bad_gntref`.
  public static let badReference = GrantStatus(rawValue: -3)
  /// The grant does not allow this use, a write to a read-only page for instance. `GNTST_permission_denied`.
  public static let permissionDenied = GrantStatus(rawValue: -8)
  /// The granted frame is no memory of that domain. `GNTST_bad_page`.
  public static let badPage = GrantStatus(rawValue: -9)
  /// The copy would cross the end of a page. `GNTST_bad_copy_arg`.
  public static let badCopyArgument = GrantStatus(rawValue: -10)
  /// The granted frame is being paged or shared just now. `GNTST_eagain`.
  public static let tryAgain = GrantStatus(rawValue: -12)
  /// No room for another mapping. `GNTST_no_space`.
  public static let noSpace = GrantStatus(rawValue: -13)
}

extension GrantStatus: CustomStringConvertible {
  /// Xen's name for the status and what it means.
  public var description: String {
    switch self {
    case .okay: "okay (GNTST_okay)"
    case .generalError: "undefined error (GNTST_general_error)"
    case .badDomain: "no such domain (GNTST_bad_domain)"
    case .badReference: "not granted to this domain (GNTST_bad_gntref)"
    case .permissionDenied: "the grant does not permit it (GNTST_permission_denied)"
    case .badPage: "not a page of that domain's memory (GNTST_bad_page)"
    case .badCopyArgument: "the copy crosses a page boundary (GNTST_bad_copy_arg)"
    case .tryAgain: "the page is not there at the moment (GNTST_eagain)"
    case .noSpace: "no room for another mapping (GNTST_no_space)"
    default: "grant status \(rawValue)"
    }
  }
}
