public import ArgumentParser
public import Picture
public import XenGrant
public import ZcopyBackend

extension PixelFormat: ExpressibleByArgument {
  /// The format of that name.
  public init?(argument: String) { self.init(name: argument) }
  /// The names, for help.
  public static var allValueStrings: [String] { all.map(\.name) }
}

extension TestPattern: ExpressibleByArgument {
  /// The pattern of that name.
  public init?(argument: String) { self.init(name: argument) }
}

extension GrantReference: ExpressibleByArgument {
  /// The reference of that decimal number; 0 is none.
  public init?(argument: String) {
    guard let number = UInt32(argument), number > 0, !argument.hasPrefix("+") else { return nil }
    self.init(rawValue: number)
  }
}

/// The options that say how the pixels of a picture lie in a buffer.
struct GeometryOptions: ParsableArguments {
  @Option(help: "Pixels in a row.")
  var width: Int?

  @Option(help: "Rows.")
  var height: Int?

  @Option(help: "Pixel format, a DRM four-character code (default: XR24).")
  var format: PixelFormat?

  @Option(
    help: ArgumentHelp("Bytes from row to row (default: rows without gaps).", valueName: "bytes"))
  var stride: Int?

  func validate() throws {
    guard (width == nil) == (height == nil) else {
      throw ValidationError("--width and --height go together")
    }
  }

  /// The picture, or nil if none is described.
  func geometry() throws(GeometryError) -> PictureGeometry? {
    guard let width, let height else { return nil }
    return try PictureGeometry(
      width: width, height: height, format: format ?? .xr24, stride: stride)
  }
}

/// The options that every command has.
struct CommonOptions: ParsableArguments {
  @Flag(help: "Write JSON, one object a line.")
  var json = false

  @Flag(help: "Tell more on standard error, the Xen libraries' own messages too.")
  var verbose = false
}
