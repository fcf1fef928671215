import SystemPackage
import Testing
import Support

@testable import ZcopyServer

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Descriptors for a store")
struct KeptDescriptorsTests {
  private func identity(_ file: FileDescriptor?) throws -> UInt64 {
    var status = stat()
    // SAFETY: the call writes the structure.
    try #require(unsafe fstat(try #require(file).rawValue, &status) == 0)
    return UInt64(status.st_ino)
  }

  @Test("are stored once for each open file, and are returned for each place")
  func once() throws {
    let pipe = try FileDescriptor.pipe()
    let other = try FileDescriptor.pipe()
    let again = try pipe.readEnd.duplicateClosedOnExec()
    let all = [pipe.readEnd, pipe.writeEnd, again, other.readEnd, pipe.readEnd]
    defer { for file in all.dropLast() + [other.writeEnd] { try? file.close() } }
    let kept = KeptDescriptors(all)
    #expect(kept.places == [0, 1, 0, 2, 0])
    #expect(kept.files == [pipe.readEnd, pipe.writeEnd, other.readEnd])
    let back = KeptDescriptors.descriptors(
      at: kept.places, in: OwnedDescriptors(try kept.files.map { try $0.duplicateClosedOnExec() })
    ).relinquish()
    defer { for file in back { try? file?.close() } }
    #expect(Set(back.compactMap { $0?.rawValue }).count == all.count)
    #expect(try back.map(identity) == all.map(identity))
    let flags = back.compactMap { $0.map { fcntl($0.rawValue, F_GETFD) } }
    #expect(flags == all.map { _ in FD_CLOEXEC })
  }

  @Test("of a device are each stored, since one open device does not know what another one did")
  func devices() throws {
    let files = try (0..<2).map { _ in try FileDescriptor.open(FilePath("/dev/null"), .readWrite) }
    defer { for file in files { try? file.close() } }
    #expect(KeptDescriptors(files).files == files)
  }

  @Test("that are lost are missing at each of their places, and those without a place are closed")
  func lost() throws {
    let pipe = try FileDescriptor.pipe()
    let back = KeptDescriptors.descriptors(
      at: [0, 1, 0, 9], in: OwnedDescriptors([nil, pipe.readEnd, pipe.writeEnd])
    ).relinquish()
    #expect(back == [nil, pipe.readEnd, nil, nil])
    // Its only writer was closed.
    var room: [UInt8] = [0]
    // SAFETY: not more is read than there is room.
    #expect(unsafe read(pipe.readEnd.rawValue, &room, 1) == 0)
    try pipe.readEnd.close()
  }
}
