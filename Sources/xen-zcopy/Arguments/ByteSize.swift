public import ArgumentParser
public import ZcopyBackend

extension ByteSize: ExpressibleByArgument {
  /// A size on the command line.
  public init?(argument: String) { self.init(argument) }
  /// The value in help texts.
  public var defaultValueDescription: String { description }
}
