import SystemPackage

/// Descriptors that came with a message, which close with the value unless they are taken.
struct Descriptors: ~Copyable {
  private var files: [FileDescriptor]
  private let closing: Closing
  private let user: UInt32
  /// Whether more were sent, for which this process had no room.
  let isShort: Bool

  init(_ files: [FileDescriptor], isShort: Bool, _ closing: Closing, of user: UInt32) {
    self.files = files
    self.isShort = isShort
    self.closing = closing
    self.user = user
  }

  deinit { for file in files { closing.close(file, of: user) } }

  var count: Int { files.count }

  /// The first, which is the caller's from now on.
  mutating func take() -> FileDescriptor? {
    files.isEmpty ? nil : files.removeFirst()
  }
}
