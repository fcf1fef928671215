import SystemPackage
import Testing
import ZcopyTestKit

@testable import DmaBuf

@Suite("The holders of a dma-buf")
struct DmaBufHolderTests {
  private func information(_ inode: UInt64, name: String = "screen") -> String {
    "pos:\t0\nflags:\t02000002\nmnt_id:\t13\nino:\t\(inode)\nsize:\t8192\ncount:\t2\n"
      + "exp_name:\tudmabuf\nname:\t\(name)\n"
  }

  @Test("are all processes with a descriptor of it, by number")
  func descriptors() throws {
    let tree = try TemporaryDirectory()
    try tree.process(
      1002, "weston",
      [
        ("/dmabuf:screen", information(77)), ("socket:[77]", information(77)),
        ("/dmabuf:", information(77)), ("/dmabuf:other", information(78)),
      ])
    try tree.process(31, "sh", [("/dmabuf:screen", information(77))])
    try tree.process(32, "top", [("/dev/null", information(77))])
    #expect(
      DmaBufHolder.find(77, root: tree.path) == [
        .process(id: 31, command: "sh", descriptors: 1, mappings: 0),
        .process(id: 1002, command: "weston", descriptors: 2, mappings: 0),
      ])
    #expect(
      DmaBufHolder.find(78, root: tree.path) == [
        .process(id: 1002, command: "weston", descriptors: 1, mappings: 0)
      ])
    #expect(DmaBufHolder.find(79, root: tree.path).isEmpty)
    let all = DmaBufHolder.all(root: tree.path)
    #expect(all.keys.sorted() == [77, 78])
    for inode in [77, 78] as [UInt64] {
      #expect(all[inode] == DmaBufHolder.find(inode, root: tree.path))
    }
  }

  @Test("are all processes with a mapping of it, whether its descriptor is closed or not")
  func mappings() throws {
    let tree = try TemporaryDirectory()
    let maps = """
      7f5d5c000000-7f5d5c021000 rw-p 00000000 00:00 0
      7f5d60a00000-7f5d60a02000 rw-s 00000000 00:0d 77                         /dmabuf:screen
      7f5d60b00000-7f5d60b02000 r--s 00001000 00:0d 77                         /dmabuf:
      7f5d60c00000-7f5d60c02000 r--s 00000000 00:0d 177                        /dmabuf:screen
      7f5d60d00000-7f5d60d02000 r--s 00000000 fe:01 77                         /usr/lib/libc.so.6

      """
    try tree.process(5, "viewer", maps: maps)
    try tree.process(6, "viewer", [("/dmabuf:screen", information(77))], maps: maps)
    #expect(
      DmaBufHolder.find(77, root: tree.path) == [
        .process(id: 5, command: "viewer", descriptors: 0, mappings: 2),
        .process(id: 6, command: "viewer", descriptors: 1, mappings: 2),
      ])
  }

  @Test("are all devices that have imported it, if the kernel lists them")
  func devices() throws {
    let tree = try TemporaryDirectory()
    try tree.bufferInformation(
      """

      Dma-buf Objects:
      size    \tflags   \tmode    \tcount   \texp_name\tino     \tname
      00008192\t02000002\t00080007\t00000003\tudmabuf\t00000077\tscreen
      \twrite fence:vgem 0x7 seq 1 signalled
      \tAttached Devices:
      \t0000:00:02.0
      \tvgem
      Total 2 devices attached

      00004096\t02000002\t00080007\t00000002\tsystem\t00000078\t<none>
      \tAttached Devices:
      \tcard9
      Total 1 devices attached


      Total 2 objects, 12288 bytes

      """)
    #expect(
      DmaBufHolder.find(77, root: tree.path) == [.device("0000:00:02.0"), .device("vgem")])
    #expect(DmaBufHolder.find(78, root: tree.path) == [.device("card9")])
    #expect(DmaBufHolder.find(7, root: tree.path).isEmpty)
  }

  @Test("are not faked by the name of a dma-buf")
  func names() throws {
    let tree = try TemporaryDirectory()
    try tree.process(5, "a", [("/dmabuf:x\nino:\t77", information(78, name: "x\nino:\t77"))])
    #expect(DmaBufHolder.find(77, root: tree.path).isEmpty)
  }

  @Test("are none if files are unreadable or malformed")
  func nothing() throws {
    let tree = try TemporaryDirectory()
    #expect(DmaBufHolder.find(77, root: "/no/such/directory").isEmpty)
    #expect(DmaBufHolder.find(77, root: tree.path).isEmpty)
    try tree.process(
      5, "a", [("/dmabuf:", ""), ("/dmabuf:", "ino:\tx\n"), ("/dmabuf:", "ino:\n")],
      maps: "\n77 77\n77 77 77 77 77\n")
    try tree.bufferInformation("77\n\t77\n\tAttached Devices:\n\tx\n77\t77\t77\t77\t77\t77")
    #expect(DmaBufHolder.find(77, root: tree.path).isEmpty)
  }

  @Test("are none for a file that is no dma-buf, on this machine")
  func real() throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 4096)
    let buffer = try DmaBufSystem().adopt(try OwnedDescriptor(duplicating: file.fileDescriptor))
    #expect(DmaBufHolder.find(buffer.inode).isEmpty)
  }

  @Test(
    "are this process, if this machine can make dma-bufs",
    .enabled(if: DmaBufSystem().udmabufSupport() == nil))
  func own() throws {
    let dmaBufs = DmaBufSystem()
    let buffer = try dmaBufs.makeDmaBuf(of: try dmaBufs.makeMemoryFile(named: "a", byteCount: 4096))
    #expect(DmaBufHolder.find(buffer.inode).count == 1)
  }

  @Test(
    "have a short description",
    arguments: [
      (
        .process(id: 812, command: "weston", descriptors: 2, mappings: 1),
        "process 812 \"weston\" (2 descriptors, 1 mapping)"
      ),
      (
        .process(id: 1, command: "a\nb", descriptors: 1, mappings: 0),
        "process 1 \"a\\nb\" (1 descriptor, 0 mappings)"
      ),
      (.device("0000:00:02.0"), "device 0000:00:02.0"),
    ] as [(DmaBufHolder, String)])
  func text(holder: DmaBufHolder, text: String) {
    #expect("\(holder)" == text)
  }
}
