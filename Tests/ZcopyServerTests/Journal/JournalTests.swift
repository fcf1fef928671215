import Glibc
import Logging
import Support
import Synchronization
import SystemPackage
import Testing
import ZcopyTestKit

@testable import ZcopyServer

@Suite("A message")
struct JournalEntryTests {
  @Test("is one line with its metadata")
  func line() {
    let entry = JournalEntry(
      level: .warning, message: "late", metadata: ["domain": "5", "buffer": "00ab"])
    #expect(entry.line == "warning: late (buffer 00ab, domain 5)")
    #expect(JournalEntry(level: .info, message: "ready", metadata: [:]).line == "info: ready")
  }

  @Test("has fields for the journal")
  func datagram() {
    let entry = JournalEntry(
      level: .error, message: "a=b", metadata: ["domain": "5", "client-user": "7"])
    #expect(
      String(decoding: entry.datagram(identifier: "xen-zcopyd"), as: UTF8.self)
        == "MESSAGE=a=b\nPRIORITY=3\nSYSLOG_IDENTIFIER=xen-zcopyd\nZCOPY_CLIENT_USER=7\nZCOPY_DOMAIN=5\n"
    )
  }

  @Test(
    "contains no newline, no field and no control character, whatever a guest writes",
    arguments: [
      "a\nPRIORITY=0", "a\r\nPRIORITY=0", "a\0b", "\u{1b}[2J", "\u{9b}2J", "\u{202e}abc",
      "a\u{2028}b", "a\u{85}b", "\u{7f}",
    ])
  func injection(_ text: String) {
    let entry = JournalEntry(
      level: .info, message: text, metadata: ["name": .string(text), "a\nb=": "c"])
    let datagram = String(decoding: entry.datagram(identifier: "x"), as: UTF8.self)
    #expect(datagram.split(separator: "\n").count == 5)
    #expect(datagram.contains("\nZCOPY_A_B_=c\n"))
    for written in [entry.line, datagram.filter { $0 != "\n" }] {
      let bad = written.unicodeScalars.filter {
        [.control, .format, .lineSeparator, .paragraphSeparator]
          .contains($0.properties.generalCategory)
      }
      #expect(bad.isEmpty)
    }
  }

  @Test("is cut to a maximum length")
  func isShort() {
    let long = String(repeating: "é", count: 100_000)
    let metadata = (0..<100).map { ("\(long)\($0)", Logger.MetadataValue.string(long)) }
    let entry = JournalEntry(
      level: .info, message: long, metadata: Dictionary(metadata) { $1 })
    #expect(entry.datagram(identifier: "x").count < 32_768)
  }
}

@Suite("The journal")
struct JournalTests {
  /// A clock that a test sets.
  final class Time: Sendable {
    private let start = BootClock().now
    private let passed = Mutex(Duration.zero)
    var now: BootClock.Instant { start + passed.withLock { $0 } }
    func pass(_ duration: Duration) { passed.withLock { $0 += duration } }
  }

  private let directory: TemporaryDirectory
  private let socket: DatagramSocket
  private let time = Time()
  private let journal: Journal

  init() throws {
    directory = try TemporaryDirectory()
    socket = try DatagramSocket("\(directory.path)/journal")
    journal = Journal(to: .journal(socket: socket.path), level: .info) { [time] in time.now }
  }

  @Test("gets each message as one datagram, with the fields of the logger and the message")
  func sends() {
    var logger = journal.logger
    logger[metadataKey: "domain"] = "5"
    logger.notice("mapped", metadata: ["buffer": "00ab"])
    #expect(
      socket.texts() == [
        "MESSAGE=mapped\nPRIORITY=5\nSYSLOG_IDENTIFIER=xen-zcopyd\nZCOPY_BUFFER=00ab\nZCOPY_DOMAIN=5\n"
      ])
  }

  @Test("gets the messages of its level, also from loggers that were made before the level changed")
  func level() {
    let logger = journal.logger
    var own = journal.logger
    own.logLevel = .error
    logger.debug("not this")
    journal.level = .debug
    logger.debug("this")
    own.warning("nor this")
    #expect(socket.texts().map { $0.prefix { $0 != "\n" } } == ["MESSAGE=this"])
  }

  /// Logs a number of messages about domain 5, reads each immediately since the socket's queue is
  /// short, and returns how many arrived.
  private func write(_ count: Int, _ logger: Logger) -> Int {
    (0..<count).reduce(0) { came, number in
      logger.warning("\(number)", metadata: ["domain": "5"])
      return came + socket.texts().count
    }
  }

  @Test("gets 20 messages about a domain in 10 seconds, then the number of suppressed messages")
  func rate() {
    let logger = journal.logger
    #expect(write(50, logger) == 20)
    logger.warning("other", metadata: ["domain": "6"])
    logger.warning("none")
    #expect(socket.texts().count == 2)
    time.pass(.seconds(9))
    journal.reportLeftOut()
    #expect(socket.texts().isEmpty)
    time.pass(.seconds(1))
    logger.warning("again", metadata: ["domain": "5"])
    let texts = socket.texts()
    #expect(texts.count == 2)
    #expect(
      texts.first?.hasPrefix("MESSAGE=30 messages about domain 5 were left out\nPRIORITY=4\n")
        == true)
    #expect(texts.last?.hasPrefix("MESSAGE=again\n") == true)
  }

  @Test("gets the number of suppressed messages even if no other message about the domain follows")
  func rateAtTheEnd() {
    let logger = journal.logger
    #expect(write(21, logger) == 20)
    time.pass(.seconds(10))
    journal.reportLeftOut()
    journal.reportLeftOut()
    #expect(socket.texts().count == 1)
  }

  @Test("that was restarted gets the next message")
  func isStartedAnew() throws {
    let path = "\(directory.path)/other"
    let journal = Journal(to: .journal(socket: path), level: .info)
    do {
      let first = try DatagramSocket(path)
      journal.logger.info("one")
      #expect(first.texts().count == 1)
    }
    // SAFETY: the string lives for the call.
    _ = unsafe unlink(path)
    let second = try DatagramSocket(path)
    journal.logger.info("two")
    #expect(second.texts().count == 1)
  }

  @Test("is missing: messages are written as lines")
  func lines() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let journal = Journal(to: .lines(ends.writeEnd), level: .info)
    journal.logger.error("no\nsuch", metadata: ["domain": "5"])
    try ends.writeEnd.close()
    var bytes = [UInt8](repeating: 0, count: 100)
    // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
    let count = try unsafe bytes.withUnsafeMutableBytes { try unsafe ends.readEnd.read(into: $0) }
    #expect(String(decoding: bytes.prefix(count), as: UTF8.self) == "error: no?such (domain 5)\n")
  }

  @Test("is used only if standard error is the socket that systemd names")
  func automatic() {
    var status = stat()
    // SAFETY: the call writes the structure.
    let result = unsafe fstat(2, &status)
    #expect(result == 0)
    let right = "\(status.st_dev):\(status.st_ino)"
    if case .lines = Journal.automatic(variable: right) { Issue.record("lines for \(right)") }
    for wrong in [nil, "", "1:2", "\(right)0"] {
      if case .journal = Journal.automatic(variable: wrong) {
        Issue.record("journal for \(wrong ?? "nil")")
      }
    }
  }
}
