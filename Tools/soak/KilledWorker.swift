import CZcopy
import SystemPackage
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// Runs the steps of one cycle in a process of its own, which can be killed at any time.
///
/// Steps are sent and results received through a socket: two words each.
final class KilledWorker: Worker {
  private var process: Int32?
  private let socket: FileDescriptor

  /// Starts the process and waits until it is ready.
  init(
    _ plan: Plan, _ cycle: Plan.Cycle, _ memory: Memory, _ mechanism: Mechanism,
    with other: DomainID
  ) throws {
    let (near, far) = try Message.pair()
    defer { try? far.close() }
    socket = near
    let arguments = [
      "/proc/self/exe", "--killed-worker", "\(far.rawValue)", "\(other)", "\(plan.seed)",
      "\(plan.cycles)",
      "\(cycle.number)", memory.rawValue, mechanism.rawValue,
    ]
    // SAFETY: the copies live until the call returns, which keeps none of them.
    var pointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    let process = unsafe czcopy_spawn(&pointers, far.rawValue, "ZCOPY_SOAK", "killed")
    guard process > 0 else { throw Stop("no process: \(Errno(rawValue: -process))") }
    self.process = process
    guard try Message(from: near) != nil else { throw Stop("the process did not start") }
  }

  deinit {
    kill()
    try? socket.close()
  }

  func perform(_ step: Step, _ argument: UInt32) throws -> UInt32 {
    try begin(step, argument)
    guard let answer = try Message(from: socket), answer.word == Message.done else {
      throw Stop("the process has failed to \(step)")
    }
    return answer.argument
  }

  /// Starts a step, and does not wait.
  func begin(_ step: Step, _ argument: UInt32) throws {
    try Message(step.rawValue, argument).send(to: socket)
  }

  /// Kills it, and waits until the kernel has released all its resources.
  func kill() {
    guard let process else { return }
    _ = Glibc.kill(process, SIGKILL)
    _ = czcopy_reap(process)
    self.process = nil
  }

  /// The process's side: runs the requested steps until it is killed or the socket is closed.
  static func run(_ hands: LocalWorker, _ socket: FileDescriptor) throws {
    try Message(Message.done, 0).send(to: socket)
    while let message = try Message(from: socket), let step = Step(rawValue: message.word) {
      let result = try hands.perform(step, message.argument)
      try Message(Message.done, result).send(to: socket)
    }
  }
}

/// A message on the socket: a step with its argument, or ``done`` with its result.
private struct Message {
  static let done: UInt32 = 1 << 31
  let word: UInt32
  let argument: UInt32

  init(_ word: UInt32, _ argument: UInt32) {
    self.word = word
    self.argument = argument
  }

  /// The next message; nil if the other end is closed.
  init?(from socket: FileDescriptor) throws {
    var words: [UInt32] = [0, 0]
    // SAFETY: read writes at most the array's size.
    let count = unsafe try words.withUnsafeMutableBytes { unsafe try socket.read(into: $0) }
    guard count == 8 else { return nil }
    (word, argument) = (words[0], words[1])
  }

  func send(to socket: FileDescriptor) throws {
    // SAFETY: write reads the array, which lives for the call.
    _ = unsafe try [word, argument].withUnsafeBytes { unsafe try socket.write($0) }
  }

  /// Both ends of a new socket that preserves message boundaries.
  static func pair() throws -> (FileDescriptor, FileDescriptor) {
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    // SAFETY: the call writes two descriptors.
    guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
  }
}
