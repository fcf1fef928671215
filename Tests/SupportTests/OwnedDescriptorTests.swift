import Support
import SystemPackage
import Testing
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("An owned descriptor")
struct OwnedDescriptorTests {
  @Test("closes with its value, and not once it is relinquished")
  func end() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let given = OwnedDescriptor(ends.writeEnd).relinquish()
    #expect(given == ends.writeEnd)
    #expect(!isAbandoned(ends.readEnd))
    do { _ = OwnedDescriptor(given) }
    #expect(isAbandoned(ends.readEnd))
  }

  @Test("that duplicates another leaves the other open, and is closed on exec")
  func duplicate() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    do {
      let copy = try OwnedDescriptor(duplicating: ends.writeEnd)
      #expect(copy.fileDescriptor != ends.writeEnd)
      #expect(fcntl(copy.fileDescriptor.rawValue, F_GETFD) == FD_CLOEXEC)
    }
    #expect(!isAbandoned(ends.readEnd))
    try ends.writeEnd.close()
    #expect(isAbandoned(ends.readEnd))
  }

  @Test("cannot duplicate a descriptor that is not open")
  func notOpen() {
    // A number that no test opens.
    let none = FileDescriptor(rawValue: .max)
    let error = #expect(throws: Errno.self) { _ = try OwnedDescriptor(duplicating: none) }
    #expect(error == .badFileDescriptor)
  }
}

@Suite("Owned descriptors")
struct OwnedDescriptorsTests {
  private let pipes: [(readEnd: FileDescriptor, writeEnd: FileDescriptor)]

  init() throws { pipes = try (0..<3).map { _ in try FileDescriptor.pipe() } }

  /// Which write ends are closed.
  private var closed: [Bool] { pipes.map { isAbandoned($0.readEnd) } }

  private func closeReadEnds() { for pipe in pipes { try? pipe.readEnd.close() } }

  @Test("are taken in their order, and those that are not taken close with the value")
  func order() throws {
    defer { closeReadEnds() }
    do {
      var files = OwnedDescriptors(pipes.map(\.writeEnd))
      #expect(files.count == 3)
      do {
        guard let first = files.next() else {
          Issue.record("there is none")
          return
        }
        #expect(first.fileDescriptor == pipes[0].writeEnd)
        #expect(closed == [false, false, false])
      }
      #expect(closed == [true, false, false])
      #expect(files.count == 2)
    }
    #expect(closed == [true, true, true])
  }

  @Test("are taken several at once; those beyond the end count as lost")
  func several() throws {
    defer { closeReadEnds() }
    var files = OwnedDescriptors(pipes.map(\.writeEnd))
    do {
      let two = files.next(2)
      #expect(two.fileDescriptors == [pipes[0].writeEnd, pipes[1].writeEnd])
    }
    #expect(closed == [true, true, false])
    do {
      let rest = files.next(2)
      #expect(rest.fileDescriptors == [pipes[2].writeEnd, nil])
      #expect(rest.count == 2)
    }
    #expect(closed == [true, true, true])
    #expect(files.next()?.fileDescriptor == nil)
    #expect(files.next(0).count == 0)
  }

  @Test("keep the places of those that are lost")
  func lost() throws {
    defer { closeReadEnds() }
    var files = OwnedDescriptors([nil, pipes[0].writeEnd, nil])
    #expect(files.next()?.fileDescriptor == nil)
    #expect(files.fileDescriptors == [pipes[0].writeEnd, nil])
    for file in files.relinquish() + [pipes[1].writeEnd, pipes[2].writeEnd] { try file?.close() }
    #expect(closed == [true, true, true])
  }

  @Test("count one that is there twice as lost the second time: it can be closed only once")
  func twice() throws {
    defer { closeReadEnds() }
    let (one, other) = (pipes[0].writeEnd, pipes[1].writeEnd)
    do {
      let files = OwnedDescriptors([one, other, one])
      #expect(files.fileDescriptors == [one, other, nil])
      #expect(files.count == 3)
    }
    #expect(closed == [true, true, false])
    try pipes[2].writeEnd.close()
  }
}
