import EventLoop
import Glibc
import SystemPackage
import ZcopyBackend
import ZcopyWire

/// One run of `top`.
final class TopSession: Session {
  private let daemon: DaemonConnection
  private let names: DomainNames
  private let output: Output
  private let isLive: Bool
  private let loop: EventLoop
  private var isEnding = false
  /// Whether events have arrived since the last update.
  private var isOld = false
  let program: ChildProgram? = nil
  var failure: (any Error)?
  private var frames = Rates<BufferID, UInt32>()
  /// By domain number.
  private var requests = Rates<UInt32, UInt64>()

  init(_ daemon: DaemonConnection, names: DomainNames, output: Output, isLive: Bool) throws {
    self.daemon = daemon
    self.names = names
    self.output = output
    self.isLive = isLive
    loop = try EventLoop()
  }

  /// Prints the table once, or updates it until a signal, a key, or the daemon's exit.
  func run() throws {
    guard isLive else { return try show() }
    let terminal = output.isJSON ? nil : Terminal()
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] _ in isEnding = true }
    // Frames are too frequent to be drawn one by one; they are counted once a second.
    try daemon.subscribe(.all.subtracting([.frame, .used]))
    try loop.onReadable(daemon.fileDescriptor) {}
    try loop.every(.seconds(1)) { [unowned self] in attempt { try show() } }
    if terminal.lend({ $0.takesKeys }) == true { try listenToKeys() }
    try run {
      try show()
      while !isEnding {
        // Calls queue events that arrive before their answers. The descriptor is not readable for
        // those.
        try takeEvents()
        try loop.turn(waiting: -1)
      }
    } finish: {
    }
  }

  private func listenToKeys() throws {
    try loop.onReadable(.standardInput) { [unowned self] in
      var key: UInt8 = 0
      // SAFETY: one byte is read into the one there is.
      let count = unsafe withUnsafeMutableBytes(of: &key) { room in
        try? unsafe FileDescriptor.standardInput.read(into: room)
      }
      if count != 1 || key == UInt8(ascii: "q") { isEnding = true }
    }
  }

  private func takeEvents() throws {
    var count = 0
    while try daemon.nextEvent() != nil { count += 1 }
    guard count > 0, !isOld else { return }
    isOld = true
    // Events that arrive together cause one update.
    loop.after(.milliseconds(100)) { [weak self] in self?.attempt { try self?.show() } }
  }

  func stop(for error: any Error) { isEnding = true }

  private func show() throws {
    isOld = false
    let entries = try daemon.list()
    let statistics = try daemon.statistics()
    frames.look(.init(entries.map { ($0.id, $0.frame) }) { $1 })
    requests.look(.init(statistics.map { ($0.domain, $0.counters.requests) }) { $1 })
    if output.isJSON {
      output.report(
        "top", nil,
        [
          "buffers": .list(entries.map { .object(fields($0)) }),
          "stats": .list(statistics.map { .object($0.fields(names)) }),
        ])
    } else if isLive {
      output.draw(Terminal.screen(lines(entries, statistics)))
    } else {
      output.print(lines(entries, statistics))
    }
  }

  private func fields(_ entry: ListEntry) -> [String: JSONValue] {
    var fields = entry.fields(names)
    fields["frames_per_second"] =
      frames.perSecond[entry.id].map { .real(($0 * 10).rounded() / 10) } ?? .null
    return fields
  }

  private func lines(_ entries: [ListEntry], _ statistics: [StatisticsMessage]) -> [String] {
    var lines = statistics.filter(\.isOfAll).map(\.daemonLine)
    let uses = statistics.map { $0.uses(requests: requests.perSecond[$0.domain]) }
    var table = Table(["LIMITS"] + (uses.first ?? []).map { $0.name.uppercased() })
    for (entry, uses) in zip(statistics, uses) {
      table.add([entry.title(names)] + uses.map(\.cell))
    }
    lines += table.lines
    lines.append("")
    return lines + bufferTable(entries, names, rates: frames.perSecond)
  }
}
