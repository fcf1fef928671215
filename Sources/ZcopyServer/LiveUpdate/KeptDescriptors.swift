public import SystemPackage
import Support

#if canImport(Glibc)
  import Glibc
#endif

/// Descriptors for a store that keeps each open file once, as the service manager's does, which drops a second one without a word.
///
/// A dma-buf that is shared with two domains has two, and a reply that waits another one.
public struct KeptDescriptors {
  /// One of each open file, in the order in which they come first.
  public let files: [FileDescriptor]
  /// Which of ``files`` each descriptor is.
  public let places: [UInt32]

  /// Puts together what the store would take for one.
  public init(_ descriptors: [FileDescriptor]) {
    var files: [FileDescriptor] = []
    var known: [FileIdentity: UInt32] = [:]
    places = descriptors.map { file in
      let identity = FileIdentity(of: file)
      if let identity, let place = known[identity] { return place }
      let place = UInt32(files.count)
      files.append(file)
      if let identity { known[identity] = place }
      return place
    }
    self.files = files
  }

  /// The descriptors that were put together, in their order.
  ///
  /// - Parameters:
  ///   - places: as ``places``.
  ///   - files: those of ``files`` that the store has given back, nil for what is lost. They are the callee's: each is one of the
  ///     result, or closed.
  /// - Returns: descriptors that are the caller's; nil for what is lost, or of which no duplicate could be made.
  public static func descriptors(
    at places: [UInt32], in files: [FileDescriptor?]
  ) -> [FileDescriptor?] {
    var isTaken = [Bool](repeating: false, count: files.count)
    let descriptors = places.map { place -> FileDescriptor? in
      guard files.indices.contains(Int(place)), let file = files[Int(place)] else { return nil }
      guard isTaken[Int(place)] else {
        isTaken[Int(place)] = true
        return file
      }
      return try? file.duplicateClosedOnExec()
    }
    for (file, isTaken) in zip(files, isTaken) where !isTaken { try? file?.close() }
    return descriptors
  }
}

/// What tells one open file from others, as the service manager sees it.
private struct FileIdentity: Hashable {
  let device: UInt64
  let inode: UInt64
  /// One file that was opened in two ways is two.
  let flags: Int32

  /// - Returns: nil for what is always one of its own: each opening of a device is another context, whatever its inode.
  init?(of file: FileDescriptor) {
    var status = stat()
    // SAFETY: the call writes the structure.
    guard unsafe fstat(file.rawValue, &status) == 0 else { return nil }
    let type = status.st_mode & S_IFMT
    guard type != S_IFCHR, type != S_IFBLK else { return nil }
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    flags = fcntl(file.rawValue, F_GETFL)
  }
}
