public import SystemPackage
public import Support

#if canImport(Glibc)
  import Glibc
#endif

/// Descriptors for a store that keeps each open file once. The service manager's store drops a
/// duplicate without an error.
///
/// A dma-buf that is shared with two domains has two descriptors, and a waiting reply has another
/// one.
public struct KeptDescriptors {
  /// One descriptor of each open file, in the order of first appearance.
  public let files: [FileDescriptor]
  /// For each descriptor, its index in ``files``.
  public let places: [UInt32]

  /// Merges the descriptors that the store would treat as duplicates.
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

  /// Restores the descriptors that were merged, in their order.
  ///
  /// - Parameters:
  ///   - places: as ``places``.
  ///   - kept: those of ``files`` that the store has returned.
  /// - Returns: the descriptors; one that could not be duplicated is lost.
  public static func descriptors(
    at places: [UInt32], in kept: consuming OwnedDescriptors
  ) -> OwnedDescriptors {
    let files = kept.relinquish()
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
    return OwnedDescriptors(descriptors)
  }
}

/// Identifies an open file in the same way as the service manager.
private struct FileIdentity: Hashable {
  let device: UInt64
  let inode: UInt64
  /// One file that was opened with two sets of flags counts as two.
  let flags: Int32

  /// - Returns: nil for a file that is always unique: each opening of a device is a separate
  ///   context, even with the same inode.
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
