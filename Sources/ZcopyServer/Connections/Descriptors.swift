import SystemPackage

/// Descriptors that came with a message, which close with the value unless they are taken.
struct Descriptors: ~Copyable {
  private var files: [FileDescriptor]
  /// How many came, here or where they were received: here are those only that a request may take.
  let count: Int
  /// Whether more were sent, for which there was no room.
  let isShort: Bool

  init(_ files: [FileDescriptor], count: Int, isShort: Bool) {
    self.files = files
    self.count = count
    self.isShort = isShort
  }

  deinit { for file in files { try? file.close() } }

  /// The first that is here, which is the caller's from now on.
  mutating func take() -> FileDescriptor? {
    files.isEmpty ? nil : files.removeFirst()
  }
}
