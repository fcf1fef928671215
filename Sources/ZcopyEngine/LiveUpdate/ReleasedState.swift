import Support
import ZcopyBackend

/// A buffer that was released, in plain values, for later queries. It has no descriptors.
struct ReleasedState: Equatable, Sendable {
  let id: BufferID
  private let facts: BufferFactsState
  /// Milliseconds since it was made, and since it was released.
  private let age: UInt64
  private let stateAge: UInt64
  private let frame: UInt32
  /// Why it is unknown whether the buffer is still held, if that is so.
  private let failure: String?

  init(_ buffer: Buffer, _ now: ContinuousClock.Instant) {
    id = buffer.id
    facts = BufferFactsState(buffer.description)
    age = buffer.description.created.duration(to: now).wholeMilliseconds
    stateAge = buffer.phaseStart.duration(to: now).wholeMilliseconds
    frame = buffer.frame
    failure = buffer.failure?.text
  }

  /// The buffer that the state describes.
  ///
  /// - Parameter then: when the state was saved.
  func buffer(_ then: ContinuousClock.Instant) -> Buffer {
    let buffer = Buffer(
      id, facts.facts(created: then - .milliseconds(Int64(clamping: age))), holder: nil)
    buffer.resume(
      .released, since: then - .milliseconds(Int64(clamping: stateAge)))
    buffer.frame = frame
    buffer.failure = failure.map { EngineError(.failed, buffer.domain, $0) }
    return buffer
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(id.high)
    encoder.write(id.low)
    facts.encode(to: &encoder)
    encoder.write(age)
    encoder.write(stateAge)
    encoder.write(frame)
    encoder.write(failure) { $0.write($1) }
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = BufferID(high: try decoder.number(), low: try decoder.number())
    facts = try BufferFactsState(from: &decoder)
    age = try decoder.number()
    stateAge = try decoder.number()
    frame = try decoder.number()
    failure = try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.text() }
  }
}
