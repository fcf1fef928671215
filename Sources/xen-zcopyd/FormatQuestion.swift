import CZcopy
import EventLoop
import SystemPackage
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// Asks a program whether it reads the live-update format of this one. The event loop continues
/// meanwhile.
final class FormatQuestion {
  /// With this option a program prints the numbers of the formats that it reads, and exits.
  static let option = "--live-update-format"
  static let limit = Duration.seconds(5)

  /// Why a program cannot take over.
  struct Refusal: Error, CustomStringConvertible {
    let description: String
  }

  private let loop: EventLoop
  private let program: String
  private let process: Int32
  private let answer: FileDescriptor
  private var timer: EventLoop.Registration?
  /// Called once, then nil.
  private var completion: ((Refusal?) -> Void)?

  /// Starts the program with ``option``.
  ///
  /// - Parameter completion: called with nil if the program reads this one's format, and with the
  ///   reason if it does not, or if it does not answer within ``limit``.
  /// - Throws: `Errno` if the program cannot be started.
  init(
    _ program: String, _ loop: EventLoop, completion: @escaping (Refusal?) -> Void
  ) throws(Errno) {
    var descriptor: Int32 = -1
    // SAFETY: the strings live for the call, which writes one number.
    process = unsafe czcopy_ask(program, Self.option, &descriptor)
    guard process > 0 else { throw Errno(rawValue: -process) }
    answer = FileDescriptor(rawValue: descriptor)
    (self.program, self.loop, self.completion) = (program, loop, completion)
    do throws(Errno) {
      try loop.onExit(of: process) { [self] in ended() }
    } catch {
      kill(process, SIGKILL)
      _ = czcopy_reap(process)
      throw error
    }
    timer = loop.after(Self.limit) { [weak self] in self?.isLate() }
  }

  deinit { try? answer.close() }

  /// Kills the program. ``ended()`` reaps it when it has ended.
  private func isLate() {
    kill(process, SIGKILL)
    finish("\(program) \(Self.option) has not answered within \(Self.limit)")
  }

  private func ended() {
    let status = czcopy_reap(process)
    if let timer { loop.remove(timer) }
    guard status == 0 else {
      return finish(
        "\(program) \(Self.option) has ended with \(status): it reads nothing from this version")
    }
    let numbers = text.split(whereSeparator: \.isWhitespace)
    let own = "\(StateEncoder.format)"
    guard !numbers.contains(where: { $0 == own }) else { return finish(nil) }
    finish(
      "it reads the formats '\(numbers.joined(separator: " "))' of live update, not \(own), which this version writes"
    )
  }

  private func finish(_ reason: String?) {
    guard let completion else { return }
    self.completion = nil
    completion(reason.map(Refusal.init))
  }

  /// The beginning of the program's output, which is one line.
  private var text: String {
    var bytes = [UInt8](repeating: 0, count: 256)
    // SAFETY: at most as many bytes are read as the buffer has.
    let count = unsafe bytes.withUnsafeMutableBytes { (try? unsafe answer.read(into: $0)) ?? 0 }
    return String(
      decoding: bytes.prefix(count).filter { 0x20...0x7E ~= $0 || $0 == 10 }, as: UTF8.self)
  }
}
