import Glibc
import SystemPackage

/// A file to read a picture from, closed with this value.
struct InputFile: ~Copyable {
  let descriptor: FileDescriptor

  /// - Throws: `PictureError.file` if it cannot be opened.
  init(path: String) throws(PictureError) {
    do throws(Errno) {
      self.descriptor = try openFile(path, O_RDONLY)
    } catch {
      throw .file(path: path, action: .read, step: "open", errno: error)
    }
  }

  deinit {
    // Nothing was written, so nothing can be lost.
    try? descriptor.close()
  }
}

/// A file that appears under its name whole or not at all.
///
/// It is written under another name in the same directory, then renamed. A file that is not regular
/// (a device, a pipe) is written directly: a rename would put a file in its place. `-` stands for
/// standard output.
struct OutputFile: ~Copyable {
  let descriptor: FileDescriptor
  private let path: String
  private var target: String
  /// The other name, as long as a file has it.
  private var temporary: String?
  private var isOpen = true

  /// - Throws: `PictureError.file` if it cannot be opened.
  init(path: String) throws(PictureError) {
    self.path = path
    if path == "-" {
      self.target = path
      self.temporary = nil
      // Not by /dev/stdout, which cannot be opened where it is a socket, as sshd may have it.
      let copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
      guard copy >= 0 else {
        throw .file(path: path, action: .write, step: "dup", errno: currentErrno())
      }
      self.descriptor = FileDescriptor(rawValue: copy)
      return
    }
    let place = Place(path)
    self.target = place.target
    do throws(Errno) {
      if place.isReplaceable {
        (self.descriptor, self.temporary) = try Self.openTemporary(beside: place.target)
      } else {
        self.descriptor = try openFile(path, O_WRONLY | O_CREAT | O_TRUNC)
        self.temporary = nil
      }
    } catch {
      throw .file(path: path, action: .write, step: "open", errno: error)
    }
  }

  /// Closes the file and gives it its name.
  ///
  /// - Throws: `PictureError.file` if the kernel reports a late write error or refuses the name;
  ///   then the file is gone and what had the name before still has it.
  consuming func commit() throws(PictureError) {
    isOpen = false
    // Not closeAfter or the like: some file systems report a full disk at close alone.
    if close(descriptor.rawValue) != 0 {
      throw .file(path: path, action: .write, step: "close", errno: currentErrno())
    }
    guard let name = temporary else { return }
    // SAFETY: both strings live for the call.
    guard unsafe rename(name, target) == 0 else {
      throw .file(path: path, action: .write, step: "rename", errno: currentErrno())
    }
    temporary = nil
  }

  deinit {
    if isOpen { try? descriptor.close() }
    if let temporary {
      // SAFETY: the string lives for the call. A failure leaves a file behind. It is not reported,
      // since an earlier error is being reported already.
      _ = unsafe unlink(temporary)
    }
  }

  /// Opens a new file in the directory of `target`.
  private static func openTemporary(
    beside target: String
  ) throws(Errno) -> (FileDescriptor, String) {
    let directory = FilePath(target).removingLastComponent()
    while true {
      // Not from the target's name, which may already be as long as a name can be.
      let random = String(UInt64.random(in: .min ... .max), radix: 16)
      let name = directory.appending(".xen-zcopy-\(random).tmp").string
      do throws(Errno) {
        return (try openFile(name, O_WRONLY | O_CREAT | O_EXCL), name)
      } catch .fileExists {
        continue
      }
    }
  }
}

/// The destination of a picture.
private struct Place {
  /// The name to take in the end.
  var target: String
  /// Whether that name is free or a regular file's.
  var isReplaceable: Bool

  init(_ path: String) {
    self.target = path
    self.isReplaceable = true
    // Follow a symbolic link, so that it stays one; /dev/stdout is one too.
    if Self.kind(of: path) == S_IFLNK {
      guard let real = Self.realPath(of: path) else {
        self.isReplaceable = false
        return
      }
      self.target = real
    }
    if let kind = Self.kind(of: target), kind != S_IFREG { self.isReplaceable = false }
  }

  /// `S_IFREG` and the like, or nil if there is no such file. Does not follow a symbolic link.
  private static func kind(of path: String) -> mode_t? {
    var information = stat()
    // SAFETY: the string lives for the call, which fills the struct.
    guard unsafe lstat(path, &information) == 0 else { return nil }
    return information.st_mode & S_IFMT
  }

  private static func realPath(of path: String) -> String? {
    // SAFETY: realpath returns memory from malloc, ended by a zero, that is ours to free.
    guard let real = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
  }
}

/// Opens a file that no child process inherits. The C call is `open`.
private func openFile(_ path: String, _ flags: CInt) throws(Errno) -> FileDescriptor {
  while true {
    // SAFETY: the string lives for the call.
    let descriptor = unsafe open(path, flags | O_CLOEXEC | O_NOCTTY, 0o666)
    if descriptor >= 0 { return FileDescriptor(rawValue: descriptor) }
    let error = currentErrno()
    guard error == .interrupted else { throw error }
  }
}

private func currentErrno() -> Errno {
  Errno(rawValue: errno)
}
