import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// Descriptors inherited in a live update.
extension OwnedDescriptors {
  /// Checks that they are all there, and makes them close-on-exec.
  ///
  /// - Throws: `LiveUpdateError.descriptors` if their number is not the expected one or one is lost, `.notOpen`.
  func check(expected count: Int) throws(LiveUpdateError) {
    let files = fileDescriptors.compactMap(\.self)
    guard files.count == count, self.count == count else {
      throw .descriptors(expected: count, given: files.count)
    }
    for file in files where fcntl(file.rawValue, F_SETFD, FD_CLOEXEC) < 0 {
      throw .notOpen(file, Errno(rawValue: errno))
    }
  }

  private mutating func required() throws(LiveUpdateError) -> OwnedDescriptor {
    guard let file = next() else { throw .descriptors(expected: 1, given: 0) }
    return file
  }

  /// Takes the next one, which must be of a grant device.
  mutating func nextGrantDevice(_ xen: Xen) throws(LiveUpdateError) -> GrantDevice {
    let file = try required()
    do throws(XenError) { return try xen.adoptGrantDevice(file) } catch { throw .xen(error) }
  }

  /// Takes the next one, which must be of an event channel device.
  mutating func nextEventChannels(_ xen: Xen) throws(LiveUpdateError) -> EventChannels {
    let file = try required()
    do throws(XenError) { return try xen.adoptEventChannels(file) } catch { throw .xen(error) }
  }

  /// Takes the next one, which must be of a grant allocator, and the pages that it has at an index.
  mutating func nextPages(
    _ index: UInt64, _ references: [GrantReference], of peer: DomainID, _ xen: Xen
  ) throws(LiveUpdateError) -> SharedPages {
    let file = try required()
    do throws(XenError) {
      return try xen.adoptGrantAllocator(file)
        .resume(at: index, references: references, domain: peer)
    } catch { throw .xen(error) }
  }

  /// Takes the next one, which must be of a dma-buf.
  ///
  /// - Throws: `LiveUpdateError.otherFile` if the inode number or the size differs.
  mutating func nextDmaBuf(
    _ inode: UInt64, pages: Int, _ dmaBufs: DmaBufSystem
  ) throws(LiveUpdateError) -> DmaBuf {
    let file = try required()
    let dmaBuf: DmaBuf
    do throws(DmaBufError) { dmaBuf = try dmaBufs.adopt(file) } catch { throw .memory(error) }
    guard dmaBuf.inode == inode,
      dmaBuf.byteCount / GrantReference.pageSize == pages,
      dmaBuf.byteCount % GrantReference.pageSize == 0
    else { throw .otherFile(dmaBuf.fileDescriptor) }
    return dmaBuf
  }

  /// Takes the next one, which must be of a memory file.
  ///
  /// - Throws: `LiveUpdateError.otherFile` if the inode number or the size differs.
  mutating func nextMemoryFile(
    _ inode: UInt64, pages: Int, _ dmaBufs: DmaBufSystem
  ) throws(LiveUpdateError) -> MemoryFile {
    let file = try required()
    let memory: MemoryFile
    do throws(DmaBufError) { memory = try dmaBufs.adoptMemoryFile(file) } catch {
      throw .memory(error)
    }
    let found = try lift(LiveUpdateError.memory, try memory.inode())
    guard found == inode, memory.byteCount == pages * GrantReference.pageSize else {
      throw .otherFile(memory.fileDescriptor)
    }
    return memory
  }
}
