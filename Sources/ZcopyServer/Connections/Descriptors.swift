import SystemPackage

/// Descriptors that came with a message. They are closed with the value unless taken.
struct Descriptors: ~Copyable {
  private var files: [FileDescriptor]
  /// How many came, in this process or in the receiver's. Only those that a request may take are
  /// here.
  let count: Int
  /// Whether more were sent than fit.
  let isShort: Bool

  init(_ files: [FileDescriptor], count: Int, isShort: Bool) {
    self.files = files
    self.count = count
    self.isShort = isShort
  }

  deinit { for file in files { try? file.close() } }

  /// The first descriptor that is here. It now belongs to the caller.
  mutating func take() -> FileDescriptor? {
    files.isEmpty ? nil : files.removeFirst()
  }
}
