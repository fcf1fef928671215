import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A violation of the contract.
struct Failure: Error {
  let reason: String
}

/// A check that cannot run here.
struct Skip: Error {
  let reason: String

  init(reason: String) { self.reason = reason }

  /// A skip, if the error means that a domain may not map its own pages here; nil for other errors.
  init?(_ error: XenError) {
    guard [.map, .mapNotify, .exportDmaBuf].contains(error.call),
      error.errno == .notSupportedOnSocket
    else { return nil }
    reason = "a domain that is not PV must not map its own pages"
  }
}

/// Fails unless the condition holds.
func expect(_ isSo: Bool, _ otherwise: @autoclosure () -> String) throws {
  guard isSo else { throw Failure(reason: otherwise()) }
}

/// Fails unless both values are equal.
func expect<Value: Equatable>(
  _ what: @autoclosure () -> String, _ actual: Value, is expected: Value
) throws {
  guard actual == expected else {
    throw Failure(reason: "\(what()) is \(actual) and should be \(expected)")
  }
}

/// Fails unless the call fails with one of those errnos.
func expectRefusal<Result: ~Copyable>(
  _ errnos: Errno..., of what: @autoclosure () -> String, _ body: () throws -> Result
) throws {
  let wanted = errnos.map(\.symbol).joined(separator: " or ")
  do {
    _ = try body()
  } catch let error as XenError {
    if let skip = Skip(error) { throw skip }
    guard errnos.contains(error.errno) else {
      throw Failure(reason: "\(what()) should be \(wanted): \(error)")
    }
    return
  }
  throw Failure(reason: "\(what()) succeeds and should be \(wanted)")
}

/// Fails unless Xen refuses a piece with that status.
func expectStatus(
  _ status: GrantStatus, of what: @autoclosure () -> String, _ body: () throws -> Void
) throws {
  do {
    try body()
  } catch let error as XenError {
    guard error.status == status else {
      throw Failure(reason: "\(what()) should be \(status): \(error)")
    }
    return
  }
  throw Failure(reason: "\(what()) succeeds and should be \(status)")
}

/// Whether a descriptor is readable within that time.
func isReadable(_ descriptor: FileDescriptor, within milliseconds: Int32) -> Bool {
  var poll = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
  var ready: Int32
  repeat {
    // SAFETY: one pollfd is passed with the count 1.
    ready = unsafe Glibc.poll(&poll, 1, milliseconds)
  } while ready < 0 && errno == EINTR
  return ready > 0
}

/// The time limit for an event that must occur.
let timeout: Int32 = 2000

/// The time limit for an event that must not occur.
let moment: Int32 = 50

/// References and domains that do not exist.
enum Absent {
  /// Far beyond any grant table: 64 frames hold entries up to 32767.
  static let reference = GrantReference(rawValue: 0xFFFF_FFF0)
  /// High domain numbers are in use only after as many domains were started.
  static let domain = DomainID(rawValue: 32_000) ?? .dom0
  /// A descriptor number that is not open.
  static let descriptor: Int32 = 1_000_000
}

extension ContractBench {
  /// Pages of the owner that the mapper may map; each begins with its own word.
  func sharePages(_ count: Int, writable: Bool = true) throws -> OwnerPages {
    let pages = OwnerPages(
      try owner.share(pages: count, with: mapperDomain, writable: writable, notification: nil))
    try pages.mark()
    return pages
  }

  /// A page of the owner that the mapper may map, with a notification of its unmapping.
  func sharePage(notification: UnmapNotification) throws -> OwnerPages {
    OwnerPages(
      try owner.share(pages: 1, with: mapperDomain, writable: true, notification: notification))
  }

  /// A page that is granted, but not to the mapper.
  func sharePageWithAbsentDomain() throws -> OwnerPages {
    OwnerPages(
      try owner.share(pages: 1, with: Absent.domain, writable: true, notification: nil))
  }
}

/// The word with which a page of that index begins.
func word(_ index: Int) -> UInt32 { 0xC0FF_0000 + UInt32(truncatingIfNeeded: index) }

/// The first reference of pages, which have at least one.
func first(_ pages: borrowing OwnerPages) throws -> GrantReference {
  guard let reference = pages.references.first else {
    throw Failure(reason: "shared pages without a reference")
  }
  return reference
}
