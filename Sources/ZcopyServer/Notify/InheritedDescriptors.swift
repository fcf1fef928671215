import Glibc
public import SystemPackage

/// The descriptors that the service manager passed to this process: the socket of its socket unit,
/// and stored descriptors.
public struct InheritedDescriptors: Equatable, Sendable {
  /// One descriptor. The caller must close it.
  public struct Entry: Equatable, Sendable {
    /// The name that the unit or the daemon gave it; `unknown` without one.
    public let name: String
    /// The descriptor, which is close-on-exec.
    public let descriptor: FileDescriptor
  }

  /// All descriptors, in the manager's order.
  public let entries: [Entry]

  /// The descriptors of that name.
  public func descriptors(named name: String) -> [FileDescriptor] {
    entries.filter { $0.name == name }.map(\.descriptor)
  }

  /// Takes the passed descriptors, once. The variables that describe them are removed, so that
  /// neither a program that this process starts nor this process after an exec mistakes other
  /// descriptors for them.
  ///
  /// Without variables for this process the result is empty. A descriptor that is not open is
  /// skipped.
  ///
  /// The C call is `sd_listen_fds_with_names`.
  public static func take() -> InheritedDescriptors {
    let inherited = InheritedDescriptors(
      environment: Environment.value, process: getpid(),
      prepare: { descriptor in
        fcntl(descriptor.rawValue, F_SETFD, FD_CLOEXEC) == 0
      })
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"] {
      Environment.remove(name)
    }
    return inherited
  }

  /// The descriptors that the variables describe.
  ///
  /// - Parameter prepare: makes a descriptor close-on-exec, and returns whether it is open.
  init(environment: (String) -> String?, process: Int32, prepare: (FileDescriptor) -> Bool) {
    guard environment("LISTEN_PID") == "\(process)",
      let count = environment("LISTEN_FDS").flatMap({ UInt32(decimal: $0) }), count <= 1 << 20
    else {
      entries = []
      return
    }
    let names = (environment("LISTEN_FDNAMES") ?? "")
      .split(separator: ":", omittingEmptySubsequences: false)
    var entries: [Entry] = []
    for index in 0..<Int(count) {
      // SD_LISTEN_FDS_START
      let descriptor = FileDescriptor(rawValue: 3 + Int32(index))
      guard prepare(descriptor) else { continue }
      let name = index < names.count && !names[index].isEmpty ? String(names[index]) : "unknown"
      entries.append(Entry(name: name, descriptor: descriptor))
    }
    self.entries = entries
  }
}
