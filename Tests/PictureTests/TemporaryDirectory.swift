import Glibc

/// A directory of one test's own, removed with all that is in it.
final class TemporaryDirectory {
  let path: String

  init() throws {
    let name = "xen-zcopy-picture-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    self.path = "/tmp/\(name)"
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(path, 0o700) == 0 else { throw Failure(step: "mkdir") }
  }

  deinit {
    // SAFETY: the strings live for their calls.
    for name in names { _ = unsafe unlink(file(name)) }
    _ = unsafe rmdir(path)
  }

  struct Failure: Error {
    let step: String
  }

  func file(_ name: String) -> String { path + "/" + name }

  /// A file with these bytes, made or replaced.
  func write(_ bytes: [UInt8], to name: String) throws -> String {
    let path = file(name)
    // SAFETY: strings and array live for their calls.
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    guard descriptor >= 0 else { throw Failure(step: "open") }
    defer { close(descriptor) }
    guard unsafe Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw Failure(step: "write")
    }
    return path
  }

  func read(_ name: String) throws -> [UInt8] {
    // SAFETY: string and array live for their calls.
    let descriptor = unsafe open(file(name), O_RDONLY)
    guard descriptor >= 0 else { throw Failure(step: "open") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = unsafe Glibc.read(descriptor, &part, part.count)
      guard count > 0 else { return bytes }
      bytes += part[..<count]
    }
  }

  /// The names of all files in it.
  var names: Set<String> {
    // SAFETY: entries are read before the stream is closed, and their names end with a zero.
    guard let stream = unsafe opendir(path) else { return [] }
    defer { unsafe closedir(stream) }
    var names: Set<String> = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.insert(name) }
    }
    return names
  }
}

/// The same numbers in every run (SplitMix64).
struct RepeatableNumbers: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { self.state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}
