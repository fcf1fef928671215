import Support
public import XenGrant

/// Executes in this domain the requests of ``RemoteOwner`` in domain 0.
public struct OwnerService: ~Copyable {
  private let owner: LocalOwner
  private let store: XenStore
  private let signal: OwnerSignal
  private var pages: [Int: any OwnerPagesDriver] = [:]
  private var channels: [Int: any OwnerChannelsDriver] = [:]
  private var lastHandle = 0

  /// A service that is ready for requests.
  public static func open(_ xen: Xen) throws -> OwnerService {
    let store = try xen.openStore()
    let directory = OwnerMessage.directory
    try? store.remove(directory)
    try store.write("\(directory)/\(OwnerMessage.request)", "")
    try store.write("\(directory)/\(OwnerMessage.reply)", "0 ok")
    let signal = try OwnerSignal.offer(to: .dom0, xen)
    try store.write("\(directory)/\(OwnerMessage.port)", "\(signal.port.rawValue)")
    return OwnerService(LocalOwner(xen), store, signal)
  }

  private init(_ owner: LocalOwner, _ store: consuming XenStore, _ signal: consuming OwnerSignal) {
    self.owner = owner
    self.store = store
    self.signal = signal
  }

  /// Answers requests until the request to end.
  ///
  /// - Throws: if no request comes within the time limit, or XenStore is not accessible.
  public mutating func run(timeout milliseconds: Int32 = 120_000) throws {
    let directory = OwnerMessage.directory
    let clock = BootClock()
    var deadline = clock.now + .milliseconds(milliseconds)
    var answered = ""
    while true {
      let request = try store.read("\(directory)/\(OwnerMessage.request)")
      var words = OwnerMessage.words(request)
      guard words.count >= 2, words[0] != answered else {
        guard clock.now < deadline else { throw Failure(reason: "no request arrived in time") }
        try signal.wait()
        continue
      }
      deadline = clock.now + .milliseconds(milliseconds)
      answered = words.removeFirst()
      let operation = OwnerMessage.Operation(rawValue: words.removeFirst())
      let reply: String
      do {
        let numbers = try answer(operation, words.compactMap { Int($0) })
        reply = (["ok"] + numbers.map(String.init)).joined(separator: " ")
      } catch {
        reply = OwnerMessage.failure(error)
      }
      try store.write("\(directory)/\(OwnerMessage.reply)", "\(answered) \(reply)")
      try signal.send()
      if operation == .end { return }
    }
  }

  private mutating func answer(
    _ operation: OwnerMessage.Operation?, _ numbers: [Int]
  ) throws -> [Int] {
    func number(_ index: Int) throws -> Int {
      guard index < numbers.count else { throw Failure(reason: "too few numbers") }
      return numbers[index]
    }
    switch operation {
    case .share:
      let made = try owner.share(
        pages: try number(0), with: try Self.domain(try number(1)), writable: try number(2) != 0,
        notification: try Self.notification(try number(3), try number(4)))
      lastHandle += 1
      pages[lastHandle] = made
      return [lastHandle] + made.references.map { Int($0.rawValue) }
    case .unshare: try pages.removeValue(forKey: try number(0))?.unshare()
    case .load:
      guard let page = pages[try number(0)] else { throw Failure(reason: "no such pages") }
      return [Int(try page.load(bytes: try number(1), at: try number(2)))]
    case .store:
      guard let page = pages[try number(0)] else { throw Failure(reason: "no such pages") }
      try page.store(
        UInt32(truncatingIfNeeded: try number(3)), bytes: try number(1), at: try number(2))
    case .mark:
      guard let page = pages[try number(0)] else { throw Failure(reason: "no such pages") }
      try page.mark()
    case .open:
      lastHandle += 1
      channels[lastHandle] = try owner.openEventChannels()
      return [lastHandle]
    case .bind:
      let port = try device(try number(0)).bindUnbound(for: try Self.domain(try number(1)))
      return [Int(port.rawValue)]
    case .notify: try device(try number(0)).notify(try Self.port(try number(1)))
    case .unmask: try device(try number(0)).unmask(try Self.port(try number(1)))
    case .next:
      let port = try device(try number(0)).next(within: Int32(clamping: try number(1)))
      return port.map { [Int($0.rawValue)] } ?? []
    case .close: try channels.removeValue(forKey: try number(0))?.close()
    case .end: break
    case nil: throw Failure(reason: "no such operation")
    }
    return []
  }

  private func device(_ handle: Int) throws -> any OwnerChannelsDriver {
    guard let device = channels[handle] else { throw Failure(reason: "no such device") }
    return device
  }

  private static func domain(_ number: Int) throws -> DomainID {
    guard let domain = UInt16(exactly: number).flatMap(DomainID.init(rawValue:)) else {
      throw Failure(reason: "no domain")
    }
    return domain
  }

  private static func port(_ number: Int) throws -> EventChannelPort {
    guard let port = UInt32(exactly: number).flatMap(EventChannelPort.init(rawValue:)) else {
      throw Failure(reason: "no port")
    }
    return port
  }

  private static func notification(_ byteOffset: Int, _ port: Int) throws -> UnmapNotification? {
    UnmapNotification(
      clearing: byteOffset == OwnerMessage.none ? nil : byteOffset,
      notifying: port == OwnerMessage.none ? nil : try self.port(port))
  }
}
