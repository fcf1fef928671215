import Glibc
public import SystemPackage

/// A file that a collector reads while it is written anew: node_exporter's textfile collector wants it whole at any time.
public struct MetricsFile: Equatable, Sendable {
  private let path: String
  private let temporary: String

  /// The file at that path, which need not be there yet.
  ///
  /// - Parameter path: absolute; node_exporter reads those that end with `.prom`.
  public init(_ path: String) {
    self.path = path
    // No collector takes it for its own: it ends with another word. In the same directory, since a file is not renamed
    // from one file system into another.
    temporary = "\(path).\(getpid()).new"
  }

  /// Writes the file: whoever reads it sees the old text or the new one. Everybody may read it.
  ///
  /// - Throws: `Errno` as the system said; the old file is there then, and nothing else.
  public func write(_ text: String) throws(Errno) {
    do {
      // Left behind by a process of this number that was killed.
      unlink()
      let file = try FileDescriptor.open(
        FilePath(temporary), .writeOnly,
        options: [.create, .exclusiveCreate, .noFollow, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
      do {
        try file.closeAfter {
          // Whatever the process's umask takes away.
          guard fchmod(file.rawValue, 0o644) == 0 else { throw Errno(rawValue: errno) }
          _ = try file.writeAll(text.utf8)
        }
        // SAFETY: both strings live for the call.
        let status = unsafe rename(temporary, path)
        guard status == 0 else { throw Errno(rawValue: errno) }
      } catch {
        unlink()
        throw error
      }
    } catch let error as Errno {
      throw error
    } catch {
      throw .ioError
    }
  }

  /// Removes the file, so that no collector takes old numbers for new ones. Nothing happens if it is not there.
  public func remove() {
    // SAFETY: the string lives for the call.
    _ = unsafe Glibc.unlink(path)
  }

  private func unlink() {
    // SAFETY: the string lives for the call.
    _ = unsafe Glibc.unlink(temporary)
  }
}
