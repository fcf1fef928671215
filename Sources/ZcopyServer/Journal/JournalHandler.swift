public import Logging

/// A log handler that writes into a ``Journal``. The journal's level applies unless the logger has
/// one of its own.
public struct JournalHandler: LogHandler {
  private let journal: Journal
  private var ownLevel: Logger.Level?
  public var metadata: Logger.Metadata = [:]

  /// A handler without metadata.
  public init(_ journal: Journal) { self.journal = journal }

  public var logLevel: Logger.Level {
    get { ownLevel ?? journal.level }
    set { ownLevel = newValue }
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    journal.write(
      event.level, event.message.description, metadata.merging(event.metadata ?? [:]) { $1 })
  }
}
