package import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

extension FileDescriptor {
  /// The same open file once more, under a number that a program started from here does not
  /// inherit, unlike that of `duplicate()`.
  ///
  /// - Returns: a descriptor that is the caller's.
  /// - Throws: `Errno` as fcntl with F_DUPFD_CLOEXEC said.
  package func duplicateClosedOnExec() throws(Errno) -> FileDescriptor {
    let number = fcntl(rawValue, F_DUPFD_CLOEXEC, 0)
    guard number >= 0 else { throw Errno(rawValue: errno) }
    return FileDescriptor(rawValue: number)
  }
}
