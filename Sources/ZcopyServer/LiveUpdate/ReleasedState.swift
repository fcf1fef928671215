import CZcopy
import ZcopyBackend

/// A buffer that was released, in plain values, for those who still ask. There are no descriptors.
struct ReleasedState: Equatable, Sendable {
  let id: BufferID
  private let description: BufferDescription
  /// Milliseconds since it was made, and since it is released.
  private let age: UInt64
  private let stateAge: UInt64
  private let frame: UInt32
  /// Why it is unknown whether it is still held, if that is so.
  private let failure: String?

  init(_ buffer: Buffer, _ now: ContinuousClock.Instant) {
    id = buffer.id
    description = buffer.facts.saved
    age = buffer.facts.created.duration(to: now).wholeMilliseconds
    stateAge = buffer.stateSince.duration(to: now).wholeMilliseconds
    frame = buffer.frame
    failure = buffer.failure?.text
  }

  /// What it says.
  ///
  /// - Parameter then: when it was written down.
  func buffer(_ then: ContinuousClock.Instant) -> Buffer {
    let buffer = Buffer(
      id, description.made(at: then - .milliseconds(Int64(clamping: age))), connection: nil)
    buffer.resume(
      state: XEN_ZCOPYD_STATE_RELEASED, since: then - .milliseconds(Int64(clamping: stateAge)))
    buffer.frame = frame
    buffer.failure = failure.map { RequestError(XEN_ZCOPYD_E_FAILED, buffer.domain, $0) }
    return buffer
  }
}

extension ReleasedState: LiveUpdateRecord {
  enum Field: UInt16 {
    case id = 1
    case description, age, stateAge, frame, failure
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.id, id)
    encoder.write(Field.description, description)
    encoder.write(Field.age, age)
    encoder.write(Field.stateAge, stateAge)
    encoder.write(Field.frame, frame)
    encoder.write(Field.failure, failure)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = try decoder.record(Field.id)
    description = try decoder.record(Field.description)
    age = try decoder.number(ifPresent: Field.age) ?? 0
    stateAge = try decoder.number(ifPresent: Field.stateAge) ?? 0
    frame = try decoder.number(ifPresent: Field.frame) ?? 0
    failure = try decoder.text(ifPresent: Field.failure)
  }
}
