import CZcopy
import EventLoop
import Glibc
import Support
import SystemPackage
import Testing
import ZcopyBackend
import ZcopyTestKit

@Suite("An event loop")
struct EventLoopTests {
  /// The calls of the handlers, in order.
  private final class Record {
    var entries: [String] = []
    func add(_ entry: String) { entries.append(entry) }
  }

  @Test("A removed delayed call is not made, also if another call's handler removed it")
  func takenBack() throws {
    let loop = try EventLoop()
    var calls: [Int] = []
    let first = loop.after(.zero) { calls.append(1) }
    var third: EventLoop.Registration?
    loop.after(.zero) {
      calls.append(2)
      if let third { loop.remove(third) }
    }
    third = loop.after(.zero) { calls.append(3) }
    loop.after(.zero) { calls.append(4) }
    loop.remove(first)
    #expect(loop.delayedCalls == 3)
    for _ in 0..<3 { try loop.turn(waiting: 1) }
    #expect(calls == [2, 4])
    #expect(loop.delayedCalls == 0)
  }

  @Test("reports a readable descriptor as long as it is readable")
  func readable() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipe = try Pipe()
    try loop.onReadable(pipe.readEnd) { record.add("readable") }
    try loop.turn(waiting: 0)
    #expect(record.entries.isEmpty)
    try pipe.signal()
    try loop.turn(waiting: 0)
    try loop.turn(waiting: 0)
    #expect(record.entries.count == 2)
    try pipe.drain()
    try loop.turn(waiting: 0)
    #expect(record.entries.count == 2)
  }

  @Test("reports a descriptor at end of file")
  func hangUp() throws {
    let loop = try EventLoop()
    let record = Record()
    let ends = try FileDescriptor.pipe()
    try loop.onReadable(ends.readEnd) { record.add("ended") }
    try ends.writeEnd.close()
    try loop.turn(waiting: 0)
    #expect(record.entries == ["ended"])
    try ends.readEnd.close()
  }

  /// Two connected non-blocking sockets that close with the value.
  private final class Sockets {
    let near: FileDescriptor
    let far: FileDescriptor

    init() throws {
      (near, far) = try MessageSocket.pair()
    }
    deinit {
      try? near.close()
      try? far.close()
    }

    /// Sends until the near end accepts no more.
    func fill() throws {
      do {
        while true { _ = try near.writeAll([UInt8](repeating: 1, count: 4096)) }
      } catch Errno.resourceTemporarilyUnavailable {}
    }

    /// Receives everything that was sent.
    func drain() throws {
      var message = [UInt8](repeating: 0, count: 4096)
      do {
        // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
        while unsafe try message.withUnsafeMutableBytes({ unsafe try far.read(into: $0) }) > 0 {}
      } catch Errno.resourceTemporarilyUnavailable {}
    }
  }

  @Test("reports a descriptor for its interest, which can change")
  func interest() throws {
    let loop = try EventLoop()
    let record = Record()
    let sockets = try Sockets()
    let registration = try loop.onReady(sockets.near, for: .readable) { ready in
      if ready.contains(.readable) { record.add("readable") }
      if ready.contains(.writable) { record.add("writable") }
    }
    try loop.turn(waiting: 0)
    #expect(record.entries == [])
    // There is room at first, and none once the buffer is full.
    try loop.change(registration, to: [.readable, .writable])
    try loop.turn(waiting: 0)
    #expect(record.entries == ["writable"])
    try sockets.fill()
    try loop.turn(waiting: 0)
    #expect(record.entries == ["writable"])
    try sockets.drain()
    _ = try sockets.far.writeAll([1])
    try loop.turn(waiting: 0)
    #expect(record.entries == ["writable", "readable", "writable"])
    try loop.change(registration, to: .readable)
    try loop.turn(waiting: 0)
    #expect(record.entries == ["writable", "readable", "writable", "readable"])
  }

  @Test("reports an end for any interest, and not for an empty interest")
  func endOfInterest() throws {
    let loop = try EventLoop()
    let record = Record()
    let sockets = try Sockets()
    let registration = try loop.onReady(sockets.near, for: []) { ready in
      record.add(ready == .writable ? "writable" : "readable")
    }
    // Both directions, as if the other side had closed its socket.
    #expect(shutdown(sockets.near.rawValue, Int32(SHUT_RDWR)) == 0)
    try loop.turn(waiting: 0)
    #expect(record.entries == [])
    for (interest, reported) in [
      (EventLoop.Interest.writable, "writable"), (.readable, "readable"), ([], ""),
      (.writable, "writable"),
    ] {
      try loop.change(registration, to: interest)
      try loop.turn(waiting: 0)
      #expect(record.entries == (reported.isEmpty ? [] : [reported]), "\(interest)")
      record.entries = []
    }
  }

  @Test("uses the interest that a handler of the same turn has set")
  func interestOfOther() throws {
    let loop = try EventLoop()
    let record = Record()
    let sockets = [try Sockets(), try Sockets()]
    var registrations: [EventLoop.Registration] = []
    for index in 0...1 {
      registrations.append(
        try loop.onReady(sockets[index].near, for: .writable) { [unowned loop] _ in
          record.add("\(index)")
          try? loop.change(registrations[1 - index], to: .readable)
        })
    }
    try loop.turn(waiting: 0)
    #expect(record.entries.count == 1)
  }

  @Test("fails to change the interest of a closed descriptor, and ignores a removed one")
  func changeTooLate() throws {
    let loop = try EventLoop()
    let pipe = try Pipe()
    let other = try Pipe()
    let registration = try loop.onReadable(pipe.readEnd) {}
    try replace(pipe.readEnd, by: other.readEnd)
    #expect(throws: Errno.noSuchFileOrDirectory) { try loop.change(registration, to: .writable) }
    loop.remove(registration)
    try loop.change(registration, to: .writable)
  }

  @Test("may be turned by a handler, and then does not call handled descriptors again")
  func nested() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipes = try (0..<5).map { _ in try Pipe() }
    for (index, pipe) in pipes.enumerated() {
      try loop.onReadable(pipe.readEnd) { [unowned loop] in
        // A handled pipe has nothing to read: a read would block here for ever.
        try? pipe.drain()
        record.add("\(index)")
        try? loop.turn(waiting: 0)
      }
      try pipe.signal()
    }
    try loop.turn(waiting: 0)
    #expect(Set(record.entries).count == 5 && record.entries.count == 5)
  }

  @Test("handles more descriptors at once than one call to the kernel returns")
  func many() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipes = try (0..<40).map { _ in try Pipe() }
    for (index, pipe) in pipes.enumerated() {
      try loop.onReadable(pipe.readEnd) {
        record.add("\(index)")
        try? pipe.drain()
      }
      try pipe.signal()
    }
    for _ in 0..<3 { try loop.turn(waiting: 0) }
    #expect(Set(record.entries).count == 40)
    #expect(record.entries.count == 40)
  }

  @Test("refuses a descriptor that is registered, cannot be polled, or is not open")
  func refused() throws {
    let loop = try EventLoop()
    let pipe = try Pipe()
    let file = try FileDescriptor.open(
      FilePath("/proc/self/exe"), .readOnly, options: .closeOnExec)
    defer { try? file.close() }
    let first = try loop.onReadable(pipe.readEnd) {}
    #expect(throws: Errno.fileExists) { try loop.onReadable(pipe.readEnd) {} }
    #expect(throws: Errno.notPermitted) { try loop.onReadable(file) {} }
    #expect(throws: Errno.badFileDescriptor) {
      try loop.onReadable(FileDescriptor(rawValue: -1)) {}
    }
    loop.remove(first)
    let second = try loop.onReadable(pipe.readEnd) {}
    #expect(first != second)
  }

  @Test("does not call a handler that a handler of the same turn has removed")
  func removedByOther() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipes = [try Pipe(), try Pipe()]
    var registrations: [EventLoop.Registration] = []
    for (index, pipe) in pipes.enumerated() {
      registrations.append(
        try loop.onReadable(pipe.readEnd) { [unowned loop] in
          record.add("\(index)")
          loop.remove(registrations[1 - index])
        })
      try pipe.signal()
    }
    try loop.turn(waiting: 0)
    #expect(record.entries.count == 1)
    try loop.turn(waiting: 0)
    #expect(Set(record.entries).count == 1)
  }

  @Test("accepts the removal of a registration inside of its own handler, and twice")
  func removedByItself() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipe = try Pipe()
    var registration: EventLoop.Registration?
    registration = try loop.onReadable(pipe.readEnd) { [unowned loop] in
      guard let registration else { return }
      loop.remove(registration)
      loop.remove(registration)
      record.add("removed")
    }
    try pipe.signal()
    try loop.turn(waiting: 0)
    try loop.turn(waiting: 0)
    #expect(record.entries == ["removed"])
  }

  @Test("does not mistake a new descriptor with a reused number for the old one")
  func numberReusedAfterRemoval() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipe = try Pipe()
    let other = try Pipe()
    let old = try loop.onReadable(pipe.readEnd) { record.add("old") }
    try pipe.signal()
    loop.remove(old)
    // One step: in a process with other threads a closed number may be reused immediately.
    try replace(pipe.readEnd, by: other.readEnd)
    let new = try loop.onReadable(pipe.readEnd) { record.add("new") }
    try other.signal()
    try loop.turn(waiting: 0)
    #expect(record.entries == ["new"])
    // The late removal of an old registration does not affect the new one.
    loop.remove(old)
    try loop.turn(waiting: 0)
    #expect(record.entries == ["new", "new"])
    loop.remove(new)
  }

  @Test("keeps a new descriptor with a reused number when the old one is removed late")
  func numberReusedBeforeRemoval() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipe = try Pipe()
    let other = try Pipe()
    let old = try loop.onReadable(pipe.readEnd) { record.add("old") }
    try replace(pipe.readEnd, by: other.readEnd)
    try loop.onReadable(pipe.readEnd) { record.add("new") }
    loop.remove(old)
    try other.signal()
    try loop.turn(waiting: 0)
    #expect(record.entries == ["new"])
  }

  /// Closes a descriptor and gives its number to another open file.
  private func replace(_ descriptor: FileDescriptor, by other: FileDescriptor) throws {
    _ = try other.duplicate(as: descriptor)
  }

  @Test("calls back periodically until the timer is removed")
  func timer() throws {
    let loop = try EventLoop()
    let record = Record()
    var timer: EventLoop.Registration?
    timer = try loop.every(.microseconds(100)) { [unowned loop] in
      record.add("tick")
      if record.entries.count == 3, let timer { loop.remove(timer) }
      if record.entries.count == 3 { loop.stop() }
    }
    try loop.run()
    #expect(record.entries.count == 3)
    try loop.turn(waiting: 2)
    #expect(record.entries.count == 3)
  }

  @Test(
    "accepts any interval",
    arguments: [
      .zero, .seconds(-1), .nanoseconds(-1), .nanoseconds(1), .seconds(1 << 31), .seconds(1 << 33),
      .seconds(Int64.max), .seconds(Int64.min),
    ] as [Duration])
  func intervals(interval: Duration) throws {
    let loop = try EventLoop()
    let record = Record()
    let timer = try loop.every(interval) { record.add("tick") }
    if interval <= .nanoseconds(1) {
      // No interval is too short.
      while record.entries.isEmpty { try loop.turn(waiting: -1) }
    } else {
      try loop.turn(waiting: 0)
      #expect(record.entries.isEmpty)
    }
    loop.remove(timer)
  }

  @Test("calls back once when a child has ended")
  func child() throws {
    let loop = try EventLoop()
    let record = Record()
    let child = try spawn(["sh", "-c", "exit 7"])
    try loop.onExit(of: child) { [unowned loop] in
      record.add("ended with \(czcopy_reap(child))")
      loop.stop()
    }
    try loop.run()
    #expect(record.entries == ["ended with 7"])
    try loop.turn(waiting: 0)
    #expect(record.entries.count == 1)
  }

  @Test("reports the signal that ended a child")
  func killedChild() throws {
    let loop = try EventLoop()
    let child = try spawn(["sleep", "1000"])
    try loop.onExit(of: child) { [unowned loop] in loop.stop() }
    #expect(kill(child, SIGKILL) == 0)
    try loop.run()
    #expect(czcopy_reap(child) == 128 + SIGKILL)
  }

  @Test("refuses to wait for a process that does not exist")
  func noChild() throws {
    let loop = try EventLoop()
    #expect(throws: Errno.noSuchProcess) { try loop.onExit(of: .max) {} }
    #expect(throws: Errno.invalidArgument) { try loop.onExit(of: 0) {} }
  }

  private func spawn(_ arguments: [String]) throws -> Int32 {
    // SAFETY: the copies outlive the call, which keeps none of them.
    var pointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    let process = unsafe czcopy_spawn(&pointers, 2, "ZCOPY_TEST", "1")
    guard process > 0 else { throw Errno(rawValue: -process) }
    return process
  }

  @Test("makes delayed calls once, in order of their times, and not before")
  func after() throws {
    let loop = try EventLoop()
    let clock = BootClock()
    let start = clock.now
    var called: [String] = []
    var times: [Duration] = []
    for (name, milliseconds) in [("late", 30), ("soon", 5), ("at once", 0), ("before", -1)] {
      loop.after(.milliseconds(milliseconds)) {
        called.append(name)
        times.append(start.duration(to: clock.now))
      }
    }
    #expect(called.isEmpty)
    while called.count < 4 { try loop.turn(waiting: -1) }
    #expect(called == ["before", "at once", "soon", "late"])
    #expect(times[2] >= .milliseconds(5) && times[3] >= .milliseconds(30))
    try loop.turn(waiting: 0)
    #expect(called.count == 4)
  }

  @Test("makes a call that a delayed call adds in a later turn")
  func afterAfter() throws {
    let loop = try EventLoop()
    var calls = 0
    func again() {
      calls += 1
      if calls < 3 { loop.after(.zero) { again() } }
    }
    loop.after(.zero) { again() }
    try loop.turn(waiting: -1)
    #expect(calls == 1)
    while calls < 3 { try loop.turn(waiting: -1) }
    try loop.turn(waiting: 0)
    #expect(calls == 3)
  }

  @Test("makes due calls once and in order if a delayed call turns the loop itself")
  func turnInside() throws {
    let loop = try EventLoop()
    var calls: [Int] = []
    loop.after(.zero) {
      calls.append(1)
      loop.after(.zero) { calls.append(4) }
      do throws(Errno) { try loop.turn(waiting: 0) } catch { Issue.record("\(error)") }
      #expect(calls == [1, 2, 3, 4])
    }
    for number in [2, 3] { loop.after(.zero) { calls.append(number) } }
    for _ in 0..<3 { try loop.turn(waiting: 1) }
    #expect(calls == [1, 2, 3, 4])
    #expect(loop.delayedCalls == 0)
  }

  @Test("does not wait for a call that is overdue, even without a limit", arguments: [-1, 60_000])
  func overdue(milliseconds: Int32) throws {
    let loop = try EventLoop()
    var isCalled = false
    loop.after(.zero) { isCalled = true }
    usleep(5000)
    try loop.turn(waiting: milliseconds)
    #expect(isCalled)
  }

  @Test("ends its run after the handler that stops it, and can run again")
  func stop() throws {
    let loop = try EventLoop()
    let record = Record()
    let pipe = try Pipe()
    try loop.onReadable(pipe.readEnd) { [unowned loop] in
      record.add("run")
      loop.stop()
      record.add("stopped")
    }
    try pipe.signal()
    try loop.run()
    #expect(record.entries == ["run", "stopped"])
    try loop.run()
    #expect(record.entries.count == 4)
  }

  @Test("calls back for each of its signals, and for no other")
  func signals() throws {
    // Runs on its own thread, since the signals stay blocked there.
    let result = try onThread {
      let loop = try EventLoop()
      let record = Record()
      try loop.onSignals([SIGUSR1, SIGUSR2, SIGHUP]) { signal in record.add("\(signal)") }
      try loop.turn(waiting: 0)
      pthread_kill(pthread_self(), SIGUSR2)
      try loop.turn(waiting: -1)
      pthread_kill(pthread_self(), SIGUSR1)
      try loop.turn(waiting: -1)
      pthread_kill(pthread_self(), SIGHUP)
      try loop.turn(waiting: -1)
      try loop.turn(waiting: 0)
      return record.entries
    }
    #expect(result == ["\(SIGUSR2)", "\(SIGUSR1)", "\(SIGHUP)"])
  }

  @Test("refuses an invalid signal number", arguments: [0, -1, 65] as [Int32])
  func noSignal(number: Int32) throws {
    let loop = try EventLoop()
    #expect(throws: Errno.invalidArgument) { try loop.onSignals([number]) { _ in } }
  }

  /// Runs a body on a new thread and waits for it.
  private func onThread(_ body: @escaping () throws -> [String]) throws -> [String] {
    var result: [String] = []
    if let failure = try TestThread({ result = try body() }).join() { throw failure }
    return result
  }
}

extension Pipe {
  /// Reads one byte.
  fileprivate func drain() throws {
    var byte: UInt8 = 0
    // SAFETY: one byte is written.
    _ = unsafe try withUnsafeMutableBytes(of: &byte) { unsafe try readEnd.read(into: $0) }
  }
}
