public import ArgumentParser
public import Picture
public import Pixels
public import XenGrant
import ZcopyBackend

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
  /// The reference with that decimal number; 0 is invalid.
  public init?(argument: String) {
    guard let number = UInt32(argument), number > 0, !argument.hasPrefix("+") else { return nil }
    self.init(rawValue: number)
  }
}

/// The mechanism on the command line.
enum MechanismChoice: ExpressibleByArgument, Equatable {
  case automatic
  case only(Mechanism)

  init?(argument: String) {
    if argument == "auto" {
      self = .automatic
    } else if let mechanism = Mechanism(rawValue: argument) {
      self = .only(mechanism)
    } else {
      return nil
    }
  }

  static var allValueStrings: [String] { ["auto"] + Mechanism.allCases.map(\.rawValue) }

  /// As it stands in help.
  var defaultValueDescription: String { "auto" }

  /// The mechanisms to try, in this order.
  func list(needsDmaBuf: Bool) -> [Mechanism] {
    switch self {
    case .automatic: needsDmaBuf ? Mechanism.makingDmaBuf : Mechanism.automatic
    case .only(let mechanism): [mechanism]
    }
  }
}

/// The memory of a shared buffer on the command line.
enum MemoryChoice: ExpressibleByArgument, Equatable {
  case automatic
  case only(MemorySource)

  init?(argument: String) {
    if argument == "auto" {
      self = .automatic
    } else if let source = MemorySource(argument) {
      self = .only(source)
    } else {
      return nil
    }
  }

  /// As it stands in help.
  var defaultValueDescription: String { "auto" }

  /// The source, or nil for what serves best.
  var source: MemorySource? {
    if case .only(let source) = self { source } else { nil }
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

  @Flag(help: "Print more on standard error, the Xen libraries' messages included.")
  var verbose = false
}
