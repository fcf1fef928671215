import Support
import SystemPackage

/// Descriptors that came with a message. They are closed with the value.
struct Descriptors: ~Copyable {
  private let files: OwnedDescriptors
  /// How many came, in this process or in the receiver's. Only those that a request may take are
  /// here.
  let count: Int
  /// Whether more were sent than fit.
  let isShort: Bool

  init(_ files: [FileDescriptor], count: Int, isShort: Bool) {
    self.files = OwnedDescriptors(files)
    self.count = count
    self.isShort = isShort
  }

  /// The first descriptor that is here; the engine duplicates what it keeps.
  var first: FileDescriptor? { files.fileDescriptors.first ?? nil }
}
