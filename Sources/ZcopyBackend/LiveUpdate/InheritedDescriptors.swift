import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// Descriptors inherited in a live update. Those not taken are closed when the value ends.
struct InheritedDescriptors: ~Copyable {
  private var files: ArraySlice<FileDescriptor>

  /// Adopts all descriptors, and makes them close-on-exec.
  ///
  /// - Throws: `LiveUpdateError.descriptors` if their number is not the expected one or a
  ///   descriptor is listed twice, `.notOpen`. All descriptors are closed then.
  init(_ files: [FileDescriptor], expected: Int) throws(LiveUpdateError) {
    do throws(LiveUpdateError) {
      try Self.check(files, expected)
    } catch {
      Self.close(files)
      throw error
    }
    self.files = files[...]
  }

  deinit { Self.close(files) }

  private static func check(_ files: [FileDescriptor], _ count: Int) throws(LiveUpdateError) {
    guard files.count == count, Set(files.map(\.rawValue)).count == count else {
      throw .descriptors(expected: count, given: files.count)
    }
    for file in files where fcntl(file.rawValue, F_SETFD, FD_CLOEXEC) < 0 {
      throw .notOpen(file, Errno(rawValue: errno))
    }
  }

  private static func close(_ files: some Sequence<FileDescriptor>) {
    for file in Set(files.map(\.rawValue)) { _ = Glibc.close(file) }
  }

  /// Takes the next descriptor, which the caller then owns.
  mutating func next() throws(LiveUpdateError) -> FileDescriptor {
    guard let file = files.popFirst() else { throw .descriptors(expected: 1, given: 0) }
    return file
  }

  /// Takes the next descriptor, which must be of a dma-buf.
  ///
  /// - Throws: `LiveUpdateError.otherFile` if the inode number or the size differs.
  mutating func nextDmaBuf(
    _ inode: UInt64, pages: Int, _ dmaBufs: DmaBufSystem
  ) throws(LiveUpdateError) -> DmaBuf {
    let file = try next()
    let dmaBuf = try lift(LiveUpdateError.memory, try dmaBufs.adopt(file))
    guard dmaBuf.inode == inode,
      dmaBuf.byteCount / GrantReference.pageSize == pages,
      dmaBuf.byteCount % GrantReference.pageSize == 0
    else { throw .otherFile(file) }
    return dmaBuf
  }

  /// Takes the next descriptor, which must be of a memory file.
  ///
  /// - Throws: `LiveUpdateError.otherFile` if the inode number or the size differs.
  mutating func nextMemoryFile(
    _ inode: UInt64, pages: Int, _ dmaBufs: DmaBufSystem
  ) throws(LiveUpdateError) -> MemoryFile {
    let file = try next()
    let memory = try lift(LiveUpdateError.memory, try dmaBufs.adoptMemoryFile(file))
    let found = try lift(LiveUpdateError.memory, try memory.inode())
    guard found == inode, memory.byteCount == pages * GrantReference.pageSize else {
      throw .otherFile(file)
    }
    return memory
  }
}
