import Support
package import ZcopyBackend

/// The plain values of a released buffer, for later queries. It has no descriptors.
package struct ReleasedState: Equatable, Sendable {
  let id: BufferID
  private let description: BufferDescription
  /// Milliseconds since the buffer was made, and since it was released.
  private let age: UInt64
  private let phaseAge: UInt64
  private let frame: FrameNumber
  /// The reason, if it is unknown whether the buffer is still held.
  private let failure: String?

  init(_ buffer: Buffer, _ now: BootClock.Instant) {
    id = buffer.id
    description = buffer.description.saved
    age = buffer.description.created.duration(to: now).wholeMilliseconds
    phaseAge = buffer.phaseStart.duration(to: now).wholeMilliseconds
    frame = buffer.frame
    failure = buffer.failure?.text
  }

  /// The buffer that the state describes.
  ///
  /// - Parameter then: when the state was saved.
  func buffer(_ then: BootClock.Instant) -> Buffer {
    let buffer = Buffer(
      id, description.made(at: then - .milliseconds(Int64(clamping: age))), holder: nil)
    buffer.resume(.released, since: then - .milliseconds(Int64(clamping: phaseAge)))
    buffer.frame = frame
    buffer.failure = failure.map { EngineError(.failed, buffer.domain, $0) }
    return buffer
  }
}

extension ReleasedState: LiveUpdateRecord {
  enum Field {
    static let id: StateTag = 1
    static let description: StateTag = 2
    static let age: StateTag = 3
    static let phaseAge: StateTag = 4
    static let frame: StateTag = 5
    static let failure: StateTag = 6
  }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.id, id)
    encoder.write(Field.description, description)
    encoder.write(Field.age, age)
    encoder.write(Field.phaseAge, phaseAge)
    encoder.write(Field.frame, frame.rawValue)
    encoder.write(Field.failure, failure)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = try decoder.record(Field.id)
    description = try decoder.record(Field.description)
    age = try decoder.number(ifPresent: Field.age) ?? 0
    phaseAge = try decoder.number(ifPresent: Field.phaseAge) ?? 0
    frame = FrameNumber(rawValue: try decoder.number(ifPresent: Field.frame) ?? 0)
    failure = try decoder.text(ifPresent: Field.failure)
  }
}
