public import DmaBuf
public import SystemPackage
public import XenGrant

/// Why state cannot be saved for a live update, or cannot be resumed.
public enum LiveUpdateError: Error, Equatable, Sendable {
  /// The bytes are not a valid state, for this reason.
  case damaged(String)
  /// The state is in a format that this program does not read.
  case format(UInt16)
  /// The state has an unknown record of that number, which must not be skipped. A later version has
  /// written the state.
  case unknownRecord(UInt16)
  /// There are more or fewer descriptors than belong to the state, or one of them is listed twice.
  case descriptors(expected: Int, given: Int)
  /// A descriptor is not open.
  case notOpen(FileDescriptor, Errno)
  /// A descriptor refers to another file than the one whose state was saved.
  case otherFile(FileDescriptor)
  /// The published nodes are missing, or now belong to another process.
  case publication(path: String)
  /// A call into Xen failed.
  case xen(XenError)
  /// Local memory cannot be used.
  case memory(DmaBufError)
}

extension LiveUpdateError: CustomStringConvertible {
  /// One line: what failed, why, and what to do.
  public var description: String {
    switch self {
    case .damaged(let what): "what was handed over is damaged: \(what)"
    case .format(let format):
      "what was handed over is in format \(format), which this program does not read: start a version that reads it"
    case .unknownRecord(let number):
      "what was handed over has a record \(number) that this program does not know and must not skip: start the version that has "
        + "written it, or a later one"
    case .descriptors(let expected, let given):
      "\(given) file descriptors were handed over where \(expected) different ones are needed"
    case .notOpen(let file, let errno):
      "file descriptor \(file.rawValue), which was handed over, cannot be used: \(errno) (\(errno.symbol) from fcntl)"
    case .otherFile(let file):
      "file descriptor \(file.rawValue) is of another file than the one that was handed over"
    case .publication(let path):
      "\(path) is no longer this buffer's: it was removed, or another process publishes there"
    case .xen(let error): "\(error)"
    case .memory(let error): "\(error)"
    }
  }
}
