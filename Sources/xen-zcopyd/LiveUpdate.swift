import CZcopy
import DmaBuf
import Logging
import SystemPackage
import ZcopyBackend
import ZcopyServer
import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// Hands a server's state over to the next process.
///
/// A memory file contains the plain values. Either the file and the descriptors stay open over
/// `exec`, and a variable lists their numbers. Or the service manager keeps duplicates of them,
/// under names that give their order.
struct LiveUpdate: ~Copyable {
  /// The variable that lists the inherited descriptors after `exec`: the memory file, the listening
  /// socket or -1, and the others, separated by commas. The variable and the names below never
  /// change, because different versions use them to hand over to each other.
  static let variable = Wire.handoverVariable
  /// The prefix of their names in the service manager's store; a number follows.
  static let namePrefix = "handover-"

  private let state: ServerState
  private let files: [FileDescriptor]
  private let listener: FileDescriptor?

  /// Saves the state of a server.
  ///
  /// - Parameters:
  ///   - configuration: the configuration that it uses.
  ///   - socketPath: the path of its socket, if it has made the socket.
  init(of service: Server, _ configuration: ConfigurationFile, socketPath: String?) {
    var (state, files) = service.saveState()
    state.configuration = configuration.text
    state.socketPath = socketPath
    self.state = state
    self.files = files
    listener = service.listeningSocket
  }

  private static func write(_ state: ServerState) throws -> MemoryFile {
    let file = try DmaBufSystem().makeMemoryFile(named: "xen-zcopyd-state", byteCount: 0)
    try file.fileDescriptor.writeAll(state.encoded)
    return file
  }

  /// Executes a program in this process, with the same arguments. Returns only on failure; this
  /// process then continues.
  ///
  /// - Throws: an error of writing the plain values.
  func become(_ program: String) throws -> Errno {
    let state = try Self.write(state)
    let inherited = [state.fileDescriptor] + files + (listener.map { [$0] } ?? [])
    let numbers =
      [state.fileDescriptor.rawValue, listener?.rawValue ?? -1] + files.map(\.rawValue)
    for file in inherited { _ = fcntl(file.rawValue, F_SETFD, 0) }
    Environment.set(Self.variable, numbers.map { "\($0)" }.joined(separator: ","))
    // SAFETY: the string lives for the call.
    let error = unsafe czcopy_exec_again(program)
    _ = Environment.take(Self.variable)
    for file in inherited { _ = fcntl(file.rawValue, F_SETFD, FD_CLOEXEC) }
    return Errno(rawValue: -error)
  }

  /// Leaves the state in the service manager's store, without the listening socket: the manager has
  /// its own, or the next process makes one.
  ///
  /// - Returns: the number of open files, the last ones, for which the store has no room; nil if
  ///   the manager keeps no files.
  /// - Throws: an error of writing the plain values.
  func store(with manager: ServiceManager) throws -> Int? {
    var state = state
    let kept = KeptDescriptors(files)
    state.places = kept.places
    let file = try Self.write(state)
    let all = [file.fileDescriptor] + kept.files
    let room = manager.storeCapacity.map { min($0, all.count) } ?? all.count
    guard room > 0 else { return nil }
    let isStored =
      all.prefix(room).enumerated().allSatisfy { index, file in
        manager.store([file], name: "\(Self.namePrefix)\(index)")
      } && manager.barrier()
    guard !isStored else { return all.count - room }
    // Descriptors that stay in the store would keep buffers mapped that this process now ends, and
    // the next process would resume them.
    for index in 0..<room { manager.remove(name: "\(Self.namePrefix)\(index)") }
    return nil
  }
}

/// The state that the preceding process has handed over.
struct Predecessor: ~Copyable {
  let state: ServerState
  let files: OwnedDescriptors
  /// The listening socket, if it was handed over too.
  var listener: OwnedDescriptor?

  /// Takes the state that an `exec` has passed, or that the service manager kept; nil if there is
  /// none.
  ///
  /// - Throws: `LiveUpdateError` if the plain values cannot be read: all descriptors are closed
  ///   then.
  static func take(
    _ inherited: [InheritedDescriptors.Entry]
  ) throws(LiveUpdateError) -> Predecessor? {
    if let value = Environment.take(LiveUpdate.variable) { return try take(fromExec: value) }
    var files: [Int: FileDescriptor] = [:]
    for entry in inherited where entry.name.hasPrefix(LiveUpdate.namePrefix) {
      guard let index = Int(entry.name.dropFirst(LiveUpdate.namePrefix.count)), files[index] == nil
      else {
        try? entry.descriptor.close()
        continue
      }
      files[index] = entry.descriptor
    }
    guard let last = files.keys.max(), last < 1 << 20 else { return nil }
    return try Predecessor(
      files[0].map { OwnedDescriptor($0) }, OwnedDescriptors((0..<last).map { files[$0 + 1] }),
      isFromStore: true)
  }

  private static func take(fromExec value: String) throws(LiveUpdateError) -> Predecessor? {
    let numbers = value.split(separator: ",").map { Int32($0) ?? -1 }
    guard numbers.count >= 2 else { return nil }
    let files = numbers.map { number in
      number > 2 && fcntl(number, F_SETFD, FD_CLOEXEC) == 0 ? FileDescriptor(rawValue: number) : nil
    }
    var all = OwnedDescriptors(files)
    let stateFile = all.next()
    let listener = all.next()
    return try Predecessor(stateFile, all, listener: listener)
  }

  private init(
    _ stateFile: consuming OwnedDescriptor?, _ files: consuming OwnedDescriptors,
    listener: consuming OwnedDescriptor? = nil, isFromStore: Bool = false
  ) throws(LiveUpdateError) {
    let state = try ServerState(reading: (stateFile?.fileDescriptor).map(Self.read) ?? [])
    self.state = state
    self.files =
      isFromStore ? KeptDescriptors.descriptors(at: state.places, in: files) : files
    self.listener = listener
  }

  private static func read(_ file: FileDescriptor) -> [UInt8] {
    guard let size = try? file.seek(offset: 0, from: .end), size > 0, size < 1 << 30 else {
      return []
    }
    var bytes = [UInt8](repeating: 0, count: Int(size))
    // SAFETY: at most as many bytes are read as the buffer has.
    let count = unsafe bytes.withUnsafeMutableBytes { room in
      (try? unsafe file.read(fromAbsoluteOffset: 0, into: room)) ?? 0
    }
    return count == bytes.count ? bytes : []
  }
}
