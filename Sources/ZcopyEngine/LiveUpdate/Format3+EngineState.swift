import Pixels
package import ZcopyBackend

extension Format3 {
  /// Converts the state of an engine.
  ///
  /// - Parameters:
  ///   - wait: reads the rest of a wait after its buffer, which the server stores separately.
  ///   - server: reads the server's numbers, which are between those of the engine.
  /// - Throws: `LiveUpdateError.damaged`.
  package func engine(
    wait: (BufferID) throws(LiveUpdateError) -> Void, server: Part
  ) throws(LiveUpdateError) {
    typealias Field = EngineState.Field
    // The records are in the order of their numbers. The buffers have the last number.
    let buffers = try apart { () throws(LiveUpdateError) in
      try list(Field.buffers) { () throws(LiveUpdateError) in try buffer(wait) }
    }
    try list(Field.released, released)
    try list(Field.domains, domain)
    try record(Field.counters, counters)
    try server()
    try number(Field.time, 8)
    encoder.append(buffers)
  }

  package func id() throws(LiveUpdateError) {
    try number(BufferID.Field.high, 8)
    try number(BufferID.Field.low, 8)
  }

  private func buffer(_ wait: (BufferID) throws(LiveUpdateError) -> Void) throws(LiveUpdateError) {
    typealias Field = BufferState.Field
    let id = BufferID(high: try take(8), low: try take(8))
    encoder.write(Field.id, id)
    try record(Field.description, description)
    if try isPresent() { try number(Field.holder, 8) }
    try number(Field.phase, 4)
    try number(Field.age, 8)
    try number(Field.phaseAge, 8)
    try number(Field.frame, 4)
    if try isPresent() { try number(Field.usedFrame, 4) }
    for _ in 0..<(try take(4)) { try wait(id) }
    // In format 3 the publication is last, but its number is lower than that of the contents.
    let contents = try apart { () throws(LiveUpdateError) in
      switch try take(1) {
      case 1: try record(Field.mapped, mapped)
      case 2: try record(Field.releasing, releasing)
      case 3: try record(Field.shared, shared)
      case let kind: throw .damaged("a buffer's contents are of the kind \(kind)")
      }
      if try isPresent() { try record(Field.importerChannel, importerChannel) }
      if try isPresent() { try record(Field.exporterChannel, exporterChannel) }
    }
    if try isPresent() { try record(Field.publication, publication) }
    encoder.append(contents)
  }

  private func description() throws(LiveUpdateError) {
    typealias Field = BufferDescription.Field
    try number(Field.kind, 4)
    try number(Field.domain, 2)
    try number(Field.process, 4)
    try number(Field.user, 4)
    // Skips the groups of the user, which are no longer used.
    for _ in 0..<(try take(4)) { _ = try take(4) }
    try number(Field.directory, 4)
    try number(Field.byteCount, 8)
    try number(Field.offset, 8)
    if try isPresent() { try number(Field.frameByteCount, 8) }
    switch try take(4) {
    case 0: break
    case 4: try record(Field.geometry, geometryOfCodes)
    case let count: throw .damaged("a picture has \(count) numbers")
    }
    try number(Field.inode, 8)
    try number(Field.pages, 8)
    try number(Field.directoryPages, 8)
    try number(Field.memory, 4)
    try number(Field.isPersistent, 1)
    try number(Field.isPeersDirectory, 1)
    try text(Field.name)
    try number(Field.directoryTime, 4)
    try number(Field.mappingTime, 4)
    try text(Field.passedOver)
  }

  private func geometryOfCodes() throws(LiveUpdateError) {
    typealias Field = PictureGeometry.Field
    try number(Field.width, 4)
    try number(Field.height, 4)
    try number(Field.stride, 4)
    try number(Field.format, 4)
  }

  private func released() throws(LiveUpdateError) {
    typealias Field = ReleasedState.Field
    try record(Field.id, id)
    try record(Field.description, description)
    try number(Field.age, 8)
    try number(Field.phaseAge, 8)
    try number(Field.frame, 4)
    if try isPresent() { try text(Field.failure) }
  }

  private func domain() throws(LiveUpdateError) {
    typealias Field = DomainState.Field
    try number(Field.domain, 2)
    if try isPresent() { try text(Field.virtualMachine) }
    try record(Field.counters, counters)
  }

  private func counters() throws(LiveUpdateError) {
    let count = try take(1)
    guard count == 0 || count == 8 else { throw .damaged("there are \(count) counters") }
    guard count == 8 else { return }
    typealias Field = Counters.Field
    for field in [
      Field.requests, Field.refused, Field.limited, Field.maps, Field.shares, Field.frames,
      Field.refreshedBytes, Field.late,
    ] { try number(field, 8) }
  }
}
