public import Pixels
public import SystemPackage

/// Why a picture could not be read, written or drawn.
public enum PictureError: Error, Sendable {
  /// A call on the file failed.
  ///
  /// `action` is what was to be done, for instance `write picture`; `step` the C call.
  case file(path: String, action: Action, step: String, errno: Errno)
  /// The file does not start as every PNG file does.
  case notPNG(path: String)
  /// libpng refuses the file, or is out of memory; `message` has its words.
  case codec(path: String, action: Action, message: String)
  /// A side above ``PictureGeometry/longestSide`` or more pixels than ``PNG/mostPixels``.
  case tooLarge(path: String, width: Int, height: Int)
  /// A row of `bytes` bytes where the picture has `needed` in each.
  case rowSize(path: String, bytes: Int, needed: Int)
  /// `rows` rows, or one after them, where the picture has `needed`.
  case rowCount(path: String, rows: Int, needed: Int)
  /// The caller's closure threw `reason` for a row, counted from 0.
  case row(path: String, action: Action, row: Int, reason: any Error)
  /// The pattern is a picture, and no geometry was given.
  case geometryMissing(TestPattern)
  /// No code of this module knows the format.
  case unsupportedFormat(PixelFormat)

  /// What was being done with the file.
  public enum Action: String, Sendable {
    /// A picture was to be read.
    case read
    /// A picture was to be written.
    case write
  }
}

extension PictureError: CustomStringConvertible {
  /// One line: which file, what failed, why, and where it helps what to do.
  public var description: String {
    switch self {
    case .file(let path, let action, let step, let errno):
      "cannot \(action.rawValue) picture \(path): \(step): \(errno)\(Self.advice(for: errno))"
    case .notPNG(let path):
      "cannot read picture \(path): not a PNG file"
    case .codec(let path, let action, let message):
      "cannot \(action.rawValue) picture \(path): \(message)"
    case .tooLarge(let path, let width, let height):
      "cannot read picture \(path): \(width)x\(height) is too large: the limits are "
        + "\(PictureGeometry.longestSide) pixels a side and \(PNG.mostPixels) in all"
    case .rowSize(let path, let bytes, let needed):
      "cannot convert a row of picture \(path): it has \(needed) bytes and \(bytes) were given"
    case .rowCount(let path, let rows, let needed):
      "cannot finish picture \(path): it has \(needed) rows and \(rows) were asked for"
    case .row(let path, let action, let row, let reason):
      "cannot \(action.rawValue) picture \(path): row \(row): \(reason)"
    case .geometryMissing(let pattern):
      "cannot draw pattern \(pattern.rawValue): give a width, a height and a format, "
        + "or take the pattern \(TestPattern.counting.rawValue)"
    case .unsupportedFormat(let format):
      "cannot convert pixels of format \(format): take one of "
        + PixelFormat.all.map(\.name).joined(separator: ", ")
    }
  }

  private static func advice(for errno: Errno) -> String {
    switch errno {
    case .noSpace, .diskQuotaExceeded: ": free some space or choose another directory"
    case .noSuchFileOrDirectory: ": check the path"
    case .permissionDenied, .readOnlyFileSystem: ": choose a place you may write to, or read from"
    default: ""
    }
  }
}
