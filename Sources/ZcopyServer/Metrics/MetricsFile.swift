import Glibc
public import SystemPackage

/// A file that is replaced atomically: node_exporter's textfile collector needs a complete file at
/// any time.
public struct MetricsFile: Equatable, Sendable {
  private let path: String
  private let temporary: String

  /// The file at that path. It may not exist yet.
  ///
  /// - Parameter path: absolute; node_exporter reads those that end with `.prom`.
  public init(_ path: String) {
    self.path = path
    // Collectors ignore the temporary file, because its name ends with another suffix. It is in the
    // same directory, because rename() does not cross file systems.
    temporary = "\(path).\(getpid()).new"
  }

  /// Writes the file atomically: readers see the old text or the new one. All users may read it.
  ///
  /// - Throws: `Errno` of the system call; the old file is unchanged then, and no temporary file is
  ///   left.
  public func write(_ text: String) throws(Errno) {
    do {
      // Left behind by a killed process with the same id.
      unlink()
      let file = try FileDescriptor.open(
        FilePath(temporary), .writeOnly,
        options: [.create, .exclusiveCreate, .noFollow, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
      do {
        try file.closeAfter {
          // Whatever the process's umask removes.
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

  /// Removes the file, so that no collector reads outdated values. A missing file is not an error.
  public func remove() {
    // SAFETY: the string lives for the call.
    _ = unsafe Glibc.unlink(path)
  }

  private func unlink() {
    // SAFETY: the string lives for the call.
    _ = unsafe Glibc.unlink(temporary)
  }
}
