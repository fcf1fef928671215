import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A real file that can be polled and is readable while something is pending.
///
/// Other code owns the descriptors. They hold a lock on the file, which belongs to the open file
/// and not to a descriptor. This object uses the lock to detect when the last descriptor is closed.
final class Readiness: Sendable {
  let identity: FileIdentity
  /// The same pipe, opened once more.
  private let readEnd: Int32
  private let writeEnd: Int32

  /// Makes the file, and its first descriptor.
  static func make() throws(Errno) -> (readiness: Readiness, descriptor: DescriptorNumber) {
    var ends: [Int32] = [-1, -1]
    // SAFETY: pipe writes two descriptors.
    let result = unsafe ends.withUnsafeMutableBufferPointer { unsafe pipe($0.baseAddress) }
    guard result == 0 else { throw Errno(rawValue: errno) }
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
    let descriptor = DescriptorNumber(ends[0])
    do throws(Errno) {
      return (try Readiness(ends[0], writeEnd: ends[1]), descriptor)
    } catch {
      close(ends[1])
      throw error
    }
  }

  private init(_ descriptor: Int32, writeEnd: Int32) throws(Errno) {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw Errno(rawValue: errno) }
    identity = try FileIdentity.read(descriptor).identity
    // SAFETY: the path is a C string for the length of the call.
    readEnd = unsafe open("/proc/self/fd/\(descriptor)", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard readEnd >= 0 else { throw Errno(rawValue: errno) }
    self.writeEnd = writeEnd
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  /// Whether the last descriptor is closed.
  var isReleased: Bool { flock(readEnd, LOCK_EX | LOCK_NB) == 0 }

  /// Makes the descriptors readable, or not readable.
  func set(_ isReady: Bool) {
    var byte: UInt8 = 0
    // SAFETY: one byte is written or read; an empty pipe gives EAGAIN.
    repeat {
      guard unsafe Glibc.read(readEnd, &byte, 1) == 1 else { break }
    } while true
    if isReady { unsafe _ = Glibc.write(writeEnd, &byte, 1) }
  }
}
