import CZcopy
import Support
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Sends damaged messages to the daemon's core: `xen-zcopyd-fuzz [MESSAGES [SEED]]`.
@main
enum Program {
  static func main() {
    let arguments = CommandLine.arguments.dropFirst().map { UInt64($0) }
    guard arguments.count <= 2, !arguments.contains(nil) else {
      fail("usage: xen-zcopyd-fuzz [MESSAGES [SEED]]")
    }
    let messages = Int(clamping: arguments.first.flatMap { $0 } ?? 1_000_000)
    let seed = (arguments.count > 1 ? arguments[1] : nil) ?? UInt64.random(in: 1...(.max))
    print("\(messages) messages, seed \(seed)")
    do {
      try run(messages, seed: seed)
    } catch {
      fail("\(error)")
    }
  }

  private static func run(_ messages: Int, seed: UInt64) throws {
    let clock = BootClock()
    let start = clock.now
    let before = Process.openDescriptors
    var early = 0
    var leftovers: [String] = []
    do {
      let fuzzer = try Fuzzer(seed: seed)
      // The run's basic memory, and the memory that ASan retains, are allocated at this point.
      try fuzzer.run(messages: messages / 5)
      early = Process.residentKiB
      try fuzzer.run(messages: messages - messages / 5)
      try fuzzer.finish()
      let report = fuzzer.report
      print(
        "\(report.messages) sent, \(report.mutated) of them mutated, with \(report.descriptors) descriptors, over "
          + "\(report.connections) connections; \(report.guests) guests")
      print("replies by type: \(sorted(report.replies))")
      print("errors by code: \(sorted(report.errors))")
      leftovers = report.leftovers
    }
    let (after, late) = (Process.openDescriptors, Process.residentKiB)
    print(
      "\(start.duration(to: clock.now).components.seconds) s; \(before) descriptors before, \(after) after; "
        + "\(early) KiB resident after a fifth, \(late) at the end")
    if after != before {
      leftovers.append(
        "\(after - before) descriptors are still open: "
          + Process.descriptorNames.joined(separator: ", "))
    }
    if late > early + Process.growthKiB { leftovers.append("memory grew by \(late - early) KiB") }
    guard leftovers.isEmpty else { fail("leaked: " + leftovers.joined(separator: "; ")) }
    print("no resource has leaked")
  }

  private static func sorted(_ counts: [UInt32: Int]) -> String {
    counts.sorted { $0.key < $1.key }
      .map { "\($0.key >= 0x4000 ? "0x" + String($0.key, radix: 16) : "\($0.key)") \($0.value)" }
      .joined(separator: ", ")
  }

  private static func fail(_ text: String) -> Never {
    print(text)
    exit(1)
  }
}

/// The resources of this process.
enum Process {
  /// The growth that is permitted in a run of any length.
  static let growthKiB = 48 << 10

  static var openDescriptors: Int { (0..<Int32(8192)).count { fcntl($0, F_GETFD) >= 0 } }

  /// The files of its descriptors, as the kernel reports them.
  static var descriptorNames: [String] {
    (0..<Int32(8192)).compactMap { number in
      var bytes = [UInt8](repeating: 0, count: 256)
      // SAFETY: readlink writes at most as many bytes as there is room for.
      let count = unsafe bytes.withUnsafeMutableBytes { buffer -> Int in
        guard let start = buffer.baseAddress else { return 0 }
        return unsafe readlink(
          "/proc/self/fd/\(number)", start.assumingMemoryBound(to: CChar.self), buffer.count)
      }
      return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
  }

  /// Its private memory.
  static var residentKiB: Int {
    guard let file = try? FileDescriptor.open(FilePath("/proc/self/status"), .readOnly) else {
      return 0
    }
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 8192)
    // SAFETY: read writes at most as many bytes as there is room for.
    let count = (try? unsafe bytes.withUnsafeMutableBytes { try unsafe file.read(into: $0) }) ?? 0
    let lines = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n")
    let line = lines.first { $0.hasPrefix("RssAnon:") }
    return line?.split { $0 == " " || $0 == "\t" }.dropFirst().first.flatMap { Int($0) } ?? 0
  }
}
