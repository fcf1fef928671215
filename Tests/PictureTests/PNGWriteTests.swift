import Glibc
import Picture
import Pixels
import SystemPackage
import ZcopyTestKit
import Testing

@Suite("Writing a PNG file")
struct PNGWriteTests {
  let directory: TemporaryDirectory
  let geometry: PictureGeometry

  init() throws {
    directory = try TemporaryDirectory()
    geometry = try PictureGeometry(width: 2, height: 3)
  }

  private struct Stop: Error {}

  @Test("asks for each row once, in order, and gives it private memory of one row")
  func asksForRows() throws {
    var asked: [Int] = []
    let wide = try PictureGeometry(width: 2, height: 3, stride: 64)
    try PNG.write(to: directory.file("a.png"), geometry: wide) { row, bytes in
      asked.append(row)
      #expect(bytes.byteCount == 8)
    }
    #expect(asked == [0, 1, 2])
  }

  @Test("leaves the file that was there, and nothing else, if a row fails")
  func rowFails() throws {
    let path = try directory.write([1, 2, 3], to: "a.png")
    let error = pictureError {
      try PNG.write(to: path, geometry: geometry) { row, _ in if row == 2 { throw Stop() } }
    }
    guard case .row(path, .write, row: 2, let reason) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(reason is Stop)
    #expect(error?.description == "cannot write picture \(path): row 2: Stop()")
    #expect(directory.names == ["a.png"])
    #expect(try directory.read("a.png") == [1, 2, 3])
  }

  @Test("replaces the file that was there when the picture is complete, not before")
  func replaces() throws {
    let path = try directory.write([1, 2, 3], to: "a.png")
    try PNG.write(to: path, geometry: geometry) { _, _ in
      let before = try directory.read("a.png")
      #expect(before == [1, 2, 3])
    }
    #expect(try directory.read("a.png").prefix(4) == [0x89, 0x50, 0x4e, 0x47])
    #expect(directory.names == ["a.png"])
  }

  @Test("leaves no file if it is abandoned, or finished too early")
  func unfinished() throws {
    let path = directory.file("a.png")
    do {
      _ = try PNG.Writer(path: path, geometry: geometry)
    }
    #expect(directory.names == [])
    let writer = try PNG.Writer(path: path, geometry: geometry)
    #expect(directory.names.count == 1)
    do throws(PictureError) {
      try writer.finish()
      Issue.record("finished without a row")
    } catch {
      guard case .rowCount(path, rows: 0, needed: 3) = error else {
        Issue.record("\(error)")
        return
      }
    }
    #expect(directory.names == [])
  }

  @Test("refuses a row that is too short, and one too many")
  func misuse() throws {
    let path = directory.file("a.png")
    let one = try PictureGeometry(width: 2, height: 1)
    var writer = try PNG.Writer(path: path, geometry: one)
    var short = [UInt8](repeating: 0, count: 7)
    let size = pictureError { try withBytes(of: &short) { try writer.append($0.bytes) } }
    guard case .rowSize(path, bytes: 7, needed: 8) = size else {
      Issue.record("\(String(describing: size))")
      return
    }
    var row = [UInt8](repeating: 0, count: 8)
    try withBytes(of: &row) { try writer.append($0.bytes) }
    let more = pictureError { try withBytes(of: &row) { try writer.append($0.bytes) } }
    guard case .rowCount(path, rows: 2, needed: 1) = more else {
      Issue.record("\(String(describing: more))")
      return
    }
    try writer.finish()
    #expect(directory.names == ["a.png"])
  }

  @Test("reports that the directory is missing")
  func missingDirectory() {
    let path = directory.file("none/a.png")
    let error = pictureError { try PNG.write(to: path, geometry: geometry) { _, _ in } }
    guard case .file(path, .write, step: "open", .noSuchFileOrDirectory) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(
      error?.description
        == "cannot write picture \(path): open: No such file or directory: check the path")
  }

  @Test("does not replace a directory")
  func directoryInTheWay() {
    let error = pictureError { try PNG.write(to: directory.path, geometry: geometry) { _, _ in } }
    guard case .file(directory.path, .write, step: "open", .isDirectory) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(
    "reports that the disk is full, and leaves a device a device",
    .enabled(if: unsafe access("/dev/full", W_OK) == 0), arguments: [(2, 2), (300, 300)])
  func diskFull(size: (width: Int, height: Int)) throws {
    let geometry = try PictureGeometry(width: size.width, height: size.height)
    var numbers = RepeatableNumbers(seed: 5)
    let error = pictureError {
      try PNG.write(to: "/dev/full", geometry: geometry) { _, bytes in
        bytes.copy(numbers.bytes(bytes.byteCount)[...])
      }
    }
    guard case .file("/dev/full", .write, step: "write", .noSpace) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(error?.description.hasSuffix("free some space or choose another directory") == true)
    var information = stat()
    // SAFETY: the string lives for the call, which fills the struct.
    #expect(unsafe lstat("/dev/full", &information) == 0)
    #expect(information.st_mode & S_IFMT == S_IFCHR)
  }

  @Test("follows a symbolic link and leaves it one, whether or not it leads to a file")
  func symbolicLink() throws {
    let link = directory.file("link.png")
    // SAFETY: both strings live for the call.
    #expect(unsafe symlink("target.png", link) == 0)
    for _ in 0..<2 {
      try PNG.write(to: link, geometry: geometry) { _, _ in }
      #expect(directory.names == ["link.png", "target.png"])
      #expect(try directory.read("target.png").prefix(4) == [0x89, 0x50, 0x4e, 0x47])
      var information = stat()
      // SAFETY: the string lives for the call, which fills the struct.
      #expect(unsafe lstat(link, &information) == 0)
      #expect(information.st_mode & S_IFMT == S_IFLNK)
    }
  }

  @Test("takes names as long as names can be, and many writers of one name at a time")
  func names() throws {
    let path = directory.file(String(repeating: "n", count: 255))
    var first = try PNG.Writer(path: path, geometry: PictureGeometry(width: 1, height: 1))
    var second = try PNG.Writer(path: path, geometry: PictureGeometry(width: 1, height: 1))
    var row: [UInt8] = [1, 2, 3, 4]
    try withBytes(of: &row) { try first.append($0.bytes) }
    try withBytes(of: &row) { try second.append($0.bytes) }
    try first.finish()
    try second.finish()
    #expect(directory.names.count == 1)
  }

  @Test("makes a file that others may read, as far as the umask lets them")
  func permissions() throws {
    let plain = try directory.write([], to: "plain")
    // SAFETY: the string lives for the call.
    let descriptor = unsafe open(directory.file("made"), O_WRONLY | O_CREAT, 0o666)
    #expect(descriptor >= 0)
    close(descriptor)
    try PNG.write(to: plain, geometry: geometry) { _, _ in }
    var (expected, information) = (stat(), stat())
    // SAFETY: the strings live for their calls, which fill the structs.
    #expect(unsafe stat(directory.file("made"), &expected) == 0)
    #expect(unsafe stat(plain, &information) == 0)
    #expect(information.st_mode == expected.st_mode)
  }

  @Test("has an error of one line for everything")
  func descriptions() {
    let errors: [PictureError] = [
      .file(path: "a", action: .write, step: "write", errno: .ioError), .notPNG(path: "a"),
      .codec(path: "a", action: .read, message: "m"), .tooLarge(path: "a", width: 1, height: 2),
      .rowSize(path: "a", bytes: 1, needed: 2), .rowCount(path: "a", rows: 1, needed: 2),
      .row(path: "a", action: .read, row: 0, reason: Stop()), .geometryMissing(.smpte),
      .unsupportedFormat(.xr24),
    ]
    for error in errors {
      #expect(!error.description.isEmpty && !error.description.contains("\n"))
    }
  }
}
