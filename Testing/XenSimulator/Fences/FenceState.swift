import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// The machine's identifier of a fence.
typealias FenceID = Int

/// Work that others may wait for.
struct FenceState: Sendable {
  var status = SyncFileInformation.Status.pending
  /// When it was signalled, of `CLOCK_MONOTONIC`.
  var nanoseconds: UInt64 = 0
}

/// A fence on a dma-buf.
struct BufferFence: Sendable {
  let id: FenceID
  /// Whether the work writes. All accesses wait for a writer, but only writers wait for a reader.
  let writes: Bool
}

/// An open sync file.
struct SyncFileState: Sendable {
  let domain: DomainID
  let name: String
  let fences: [FenceID]
  let signal: SyncSignal
}

/// A descriptor that becomes readable when all fences are signalled, and whose last close is
/// detectable.
final class SyncSignal: Sendable {
  let identity: FileIdentity
  private let end: Int32

  /// Makes a signal and the descriptor that is handed out.
  static func make() throws(Errno) -> (signal: SyncSignal, descriptor: Int32) {
    var ends: [Int32] = [-1, -1]
    // Not a pipe: a write to a closed pipe sends SIGPIPE to the process.
    // SAFETY: socketpair writes two descriptors.
    let result = unsafe ends.withUnsafeMutableBufferPointer {
      unsafe socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0.baseAddress)
    }
    guard result == 0 else { throw Errno(rawValue: errno) }
    do throws(Errno) {
      let identity = try FileIdentity.read(ends[0]).identity
      return (SyncSignal(identity, ends[1]), ends[0])
    } catch {
      close(ends[0])
      close(ends[1])
      throw error
    }
  }

  private init(_ identity: FileIdentity, _ end: Int32) {
    self.identity = identity
    self.end = end
  }

  deinit { close(end) }

  /// Makes the descriptor readable.
  func raise() {
    var byte: UInt8 = 1
    // SAFETY: one byte is sent.
    unsafe _ = send(end, &byte, 1, Int32(MSG_NOSIGNAL))
  }

  /// Whether the last copy of the descriptor is closed.
  var isReleased: Bool {
    var entry = pollfd(fd: end, events: 0, revents: 0)
    // SAFETY: one entry is passed with the count 1.
    return unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLHUP) != 0
  }
}
