import SystemPackage

/// Descriptors that came with a message, which close with the value unless they are taken.
struct Descriptors: ~Copyable {
  private var files: [FileDescriptor]

  init(_ files: [FileDescriptor] = []) { self.files = files }

  deinit { for file in files { try? file.close() } }

  var count: Int { files.count }

  /// The first, which is the caller's from now on.
  mutating func take() -> FileDescriptor? {
    files.isEmpty ? nil : files.removeFirst()
  }
}
