public import SystemPackage

/// An open file descriptor that closes with the value.
///
/// A function that takes one by `consuming` owns it, whether it succeeds or throws.
///
/// ```swift
/// let file = try OwnedDescriptor(duplicating: theirs)
/// let dmaBuf = try DmaBuf(adopting: file)
/// ```
public struct OwnedDescriptor: ~Copyable, Sendable {
  /// The descriptor, which this value owns: to use and to pass on, not to close.
  public let fileDescriptor: FileDescriptor

  /// Takes the ownership of a descriptor.
  ///
  /// - Parameter fileDescriptor: it need not be open: then closing it does nothing.
  public init(_ fileDescriptor: FileDescriptor) { self.fileDescriptor = fileDescriptor }

  /// Takes the ownership of a descriptor that a C call returned.
  package init(rawValue: Int32) { self.init(FileDescriptor(rawValue: rawValue)) }

  /// Its number, for a C call.
  package var rawValue: Int32 { fileDescriptor.rawValue }

  /// The same open file once more. A program that this process starts does not inherit it.
  ///
  /// - Throws: `Errno` with EBADF if the descriptor is not open, EMFILE if this process has no other number.
  ///
  /// The C call is `fcntl` with `F_DUPFD_CLOEXEC`.
  public init(duplicating fileDescriptor: FileDescriptor) throws(Errno) {
    self.init(try fileDescriptor.duplicateClosedOnExec())
  }

  // An error of close cannot be handled: the descriptor is closed in any case.
  deinit { try? fileDescriptor.close() }

  /// The descriptor, which the caller closes from now on.
  public consuming func relinquish() -> FileDescriptor {
    let fileDescriptor = fileDescriptor
    discard self
    return fileDescriptor
  }
}

/// Open file descriptors in an order. Some may be lost. Those that are not taken are closed with the value.
public struct OwnedDescriptors: ~Copyable, Sendable {
  private var files: ArraySlice<FileDescriptor?>

  /// Takes the ownership of descriptors.
  ///
  /// - Parameter files: nil for each that is lost. One that is there twice counts as lost the second time, since it can
  ///   be closed only once.
  public init(_ files: [FileDescriptor?]) {
    var known: Set<Int32> = []
    self.init(
      unique: files.map { file in
        guard let file, known.insert(file.rawValue).inserted else { return nil }
        return file
      })
  }

  /// Takes the ownership of descriptors, of which none is lost.
  public init(_ files: [FileDescriptor]) { self.init(files.map(Optional.some)) }

  private init(unique files: [FileDescriptor?]) { self.files = files[...] }

  deinit { for file in files { try? file?.close() } }

  /// How many there are, with those that are lost.
  public var count: Int { files.count }

  /// The descriptors, which this value owns; nil for each that is lost.
  public var fileDescriptors: [FileDescriptor?] { Array(files) }

  /// The descriptors, which the caller closes from now on; nil for each that is lost.
  package consuming func relinquish() -> [FileDescriptor?] {
    let all = Array(files)
    files = []
    return all
  }

  /// Takes the next one; nil if it is lost, or if there are no more.
  public mutating func next() -> OwnedDescriptor? {
    guard let file = files.popFirst() ?? nil else { return nil }
    return OwnedDescriptor(file)
  }

  /// Takes the next ones. Those beyond the end are lost.
  ///
  /// - Parameter count: 0 or more.
  public mutating func next(_ count: Int) -> OwnedDescriptors {
    let taken = Array(files.prefix(count))
    files = files.dropFirst(count)
    return OwnedDescriptors(
      unique: taken + Array(repeating: nil, count: max(0, count - taken.count)))
  }
}
