import Support
import Synchronization
public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// An owner in another domain, where ``OwnerService`` runs.
public final class RemoteOwner: ContractOwner {
  private struct State: ~Copyable {
    let store: XenStore
    let signal: OwnerSignal
    var count = 0
  }

  private let state: Mutex<State>
  private let path: String

  /// The owner in that domain, once it answers.
  ///
  /// - Throws: if it does not answer within 20 seconds.
  public convenience init(_ xen: Xen, in domain: DomainID) throws {
    let path = "\(XenStore.home(of: domain))/\(OwnerMessage.directory)"
    let store = try xen.openStore()
    let signal = try OwnerSignal.connect(to: domain, port: Self.port(store, below: path), xen)
    self.init(store, signal, path)
  }

  private init(
    _ store: consuming sending XenStore, _ signal: consuming sending OwnerSignal, _ path: String
  ) {
    state = Mutex(State(store: store, signal: signal))
    self.path = path
  }

  /// The owner's port, which it writes when it is ready.
  private static func port(_ store: borrowing XenStore, below path: String) throws
    -> EventChannelPort
  {
    let node = "\(path)/\(OwnerMessage.port)"
    let clock = BootClock()
    let deadline = clock.now + .milliseconds(OwnerMessage.timeout)
    while clock.now < deadline {
      if let text = try store.readIfPresent(node),
        let port = UInt32(text).flatMap(EventChannelPort.init(rawValue:))
      {
        return port
      }
      usleep(50_000)
    }
    throw Failure(reason: "the owner wrote no port to \(node)")
  }

  public func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws -> any OwnerPagesDriver {
    let port = notification?.port.map { Int($0.rawValue) }
    let numbers = try ask(
      .share, pages, Int(domain.rawValue), writable ? 1 : 0,
      notification?.byteOffset ?? OwnerMessage.none, port ?? OwnerMessage.none)
    guard let handle = numbers.first else { throw Failure(reason: "the owner sent no pages") }
    let references = numbers.dropFirst().compactMap(UInt32.init(exactly:))
      .map(GrantReference.init(rawValue:))
    return RemotePages(self, handle, references)
  }

  public func openEventChannels() throws -> any OwnerChannelsDriver {
    guard let handle = try ask(.open).first else {
      throw Failure(reason: "the owner sent no device")
    }
    return RemoteChannels(self, handle)
  }

  /// Notifies the owner that it is no longer needed.
  public func end() throws { _ = try ask(.end) }

  /// Sends a request and waits for the reply.
  fileprivate func ask(_ operation: OwnerMessage.Operation, _ numbers: Int...) throws -> [Int] {
    let text = numbers.map { " \($0)" }.joined()
    let path = path
    return try state.withLock { state in
      state.count += 1
      try state.store.write(
        "\(path)/\(OwnerMessage.request)", "\(state.count) \(operation.rawValue)\(text)")
      try state.signal.send()
      return try Self.wait(&state, for: state.count, below: path)
    }
  }

  private static func wait(
    _ state: inout State, for number: Int, below path: String
  ) throws -> [Int] {
    let clock = BootClock()
    let deadline = clock.now + .milliseconds(OwnerMessage.timeout)
    while clock.now < deadline {
      if let reply = try state.store.readIfPresent("\(path)/\(OwnerMessage.reply)") {
        let words = OwnerMessage.words(reply)
        if words.first == "\(number)" { return try OwnerMessage.numbers(words.dropFirst()) }
      }
      try state.signal.wait()
    }
    throw Failure(reason: "the owner at \(path) does not reply")
  }
}

private final class RemotePages: OwnerPagesDriver {
  private let owner: RemoteOwner
  private let handle: Int
  let references: [GrantReference]

  init(_ owner: RemoteOwner, _ handle: Int, _ references: [GrantReference]) {
    self.owner = owner
    self.handle = handle
    self.references = references
  }

  func load(bytes: Int, at offset: Int) throws -> UInt32 {
    guard let value = try owner.ask(.load, handle, bytes, offset).first else {
      throw Failure(reason: "the owner sent no value")
    }
    return UInt32(truncatingIfNeeded: value)
  }

  func store(_ value: UInt32, bytes: Int, at offset: Int) throws {
    _ = try owner.ask(.store, handle, bytes, offset, Int(value))
  }

  func mark() throws { _ = try owner.ask(.mark, handle) }

  func unshare() throws { _ = try owner.ask(.unshare, handle) }
}

private final class RemoteChannels: OwnerChannelsDriver {
  private let owner: RemoteOwner
  private let handle: Int

  init(_ owner: RemoteOwner, _ handle: Int) {
    self.owner = owner
    self.handle = handle
  }

  func bindUnbound(for domain: DomainID) throws -> EventChannelPort {
    guard let port = try port(owner.ask(.bind, handle, Int(domain.rawValue))) else {
      throw Failure(reason: "the owner sent no port")
    }
    return port
  }

  func notify(_ port: EventChannelPort) throws {
    _ = try owner.ask(.notify, handle, Int(port.rawValue))
  }

  func unmask(_ port: EventChannelPort) throws {
    _ = try owner.ask(.unmask, handle, Int(port.rawValue))
  }

  func next(within milliseconds: Int32) throws -> EventChannelPort? {
    try port(owner.ask(.next, handle, Int(milliseconds)))
  }

  func close() throws { _ = try owner.ask(.close, handle) }

  private func port(_ numbers: [Int]) -> EventChannelPort? {
    numbers.first.flatMap(UInt32.init(exactly:)).flatMap(EventChannelPort.init(rawValue:))
  }
}
