public import ArgumentParser
public import ZcopyBackend

extension ByteSize: ExpressibleByArgument {
  /// A size on the command line.
  public init?(argument: String) { self.init(argument) }
  /// As it stands in help.
  public var defaultValueDescription: String { description }
}
