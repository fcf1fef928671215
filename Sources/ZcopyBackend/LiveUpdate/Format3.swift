import Pixels

/// Converts a state of format 3 to the format of this program.
///
/// xen-zcopyd 0.1 writes format 3, in which values follow each other without names. Each kind of
/// state has a method that reads the values in their order and writes them as records. The values
/// are checked when the records are read.
package final class Format3 {
  package typealias Part = () throws(LiveUpdateError) -> Void

  private var rest: ArraySlice<UInt8>
  package var encoder = StateEncoder()

  /// - Throws: `LiveUpdateError.format` if it is in another format, `.damaged`.
  package init(_ bytes: [UInt8], kind: UInt16) throws(LiveUpdateError) {
    rest = try StateDecoder.open(bytes, kind: kind, format: 3)
  }

  /// Fails unless all bytes were read.
  package func finish() throws(LiveUpdateError) {
    guard rest.isEmpty else { throw .damaged("something comes after its end") }
  }

  // MARK: - Parts of values

  /// Reads the next number, of that many bytes, without writing a record.
  package func take(_ count: Int) throws(LiveUpdateError) -> UInt64 {
    try StateDecoder.take(&rest, count)
  }

  private func takeBytes(countOf width: Int, times size: Int = 1) throws(LiveUpdateError) -> [UInt8]
  {
    let count = Int(try take(width)) * size
    guard count <= rest.count else { throw .damaged("it ends too early") }
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  package func number(
    _ field: StateTag, _ count: Int
  ) throws(LiveUpdateError) {
    encoder.write(field, try take(count))
  }

  package func text(_ field: StateTag) throws(LiveUpdateError) {
    encoder.write(field, try takeBytes(countOf: 2))
  }

  package func bytes(_ field: StateTag) throws(LiveUpdateError) {
    encoder.write(field, try takeBytes(countOf: 4))
  }

  package func numbers(_ field: StateTag) throws(LiveUpdateError) {
    encoder.write(field, try takeBytes(countOf: 4, times: 4))
  }

  package func isPresent() throws(LiveUpdateError) -> Bool {
    let flag = try take(1)
    guard flag <= 1 else { throw .damaged("a flag is neither set nor not") }
    return flag == 1
  }

  package func record(
    _ field: StateTag, _ part: Part
  ) throws(LiveUpdateError) {
    let start = encoder.begin(field)
    try part()
    encoder.end(start)
  }

  /// Converts a list, whose count has four bytes.
  package func list(
    _ field: StateTag, _ part: Part
  ) throws(LiveUpdateError) {
    let start = encoder.begin(field)
    for _ in 0..<(try take(4)) {
      let start = encoder.begin()
      try part()
      encoder.end(start)
    }
    encoder.end(start)
  }

  /// Returns the records of a part, which the caller appends later.
  package func apart(_ part: Part) throws(LiveUpdateError) -> StateEncoder {
    let whole = encoder
    encoder = StateEncoder()
    try part()
    defer { encoder = whole }
    return encoder
  }

  // MARK: - States

  private func mapParameters() throws(LiveUpdateError) {
    typealias Field = MapParameters.Field
    try number(Field.domain, 2)
    try number(Field.directory, 4)
    try number(Field.byteCount, 8)
    try number(Field.offset, 8)
    if try isPresent() { try number(Field.frameByteCount, 8) }
    if try isPresent() { try record(Field.geometry, geometry) }
  }

  private func geometry() throws(LiveUpdateError) {
    typealias Field = PictureGeometry.Field
    try number(Field.width, 8)
    try number(Field.height, 8)
    try number(Field.stride, 8)
    let name = String(decoding: try takeBytes(countOf: 2), as: UTF8.self)
    encoder.write(Field.format, PixelFormat(name: name)?.code)
  }

  package func mapped() throws(LiveUpdateError) {
    typealias Field = MappedBufferState.Field
    try record(Field.request, mapParameters)
    try numbers(Field.references)
    try text(Field.mechanism)
    try number(Field.inode, 8)
    try number(Field.number, 4)
    try number(Field.file, 8)
    try number(Field.directoryTime, 8)
    try number(Field.mappingTime, 8)
  }

  package func releasing() throws(LiveUpdateError) {
    typealias Field = ReleasingBufferState.Field
    try number(Field.domain, 2)
    try number(Field.pages, 8)
    if try isPresent() { try number(Field.inode, 8) }
    if try isPresent() { try number(Field.number, 4) }
  }

  package func shared() throws(LiveUpdateError) {
    typealias Field = SharedBufferState.Field
    try number(Field.peer, 2)
    try number(Field.byteCount, 8)
    try text(Field.source)
    try numbers(Field.references)
    try number(Field.directory, 4)
    try record(Field.memory, memory)
    if try isPresent() { try record(Field.ownDirectory, pages) }
  }

  private func memory() throws(LiveUpdateError) {
    typealias Field = SharedBufferState.Memory.Field
    guard try isPresent() else { return try number(Field.pages, 8) }
    try number(Field.inode, 8)
    try number(Field.number, 4)
    if try isPresent() { try number(Field.file, 8) }
  }

  private func pages() throws(LiveUpdateError) {
    try number(SharedBufferState.Pages.Field.index, 8)
    try numbers(SharedBufferState.Pages.Field.references)
  }

  package func importerChannel() throws(LiveUpdateError) {
    typealias Field = ImporterChannelState.Field
    try number(Field.owner, 2)
    try number(Field.controlPage, 4)
    try number(Field.port, 4)
    try number(Field.frame, 4)
    try number(Field.framePage, 4)
    try number(Field.isEnding, 1)
  }

  package func exporterChannel() throws(LiveUpdateError) {
    typealias Field = ExporterChannelState.Field
    try number(Field.peer, 2)
    try number(Field.controlPage, 4)
    try number(Field.port, 4)
    try number(Field.index, 8)
    try number(Field.frame, 4)
    try number(Field.peerIsAlive, 1)
    try number(Field.peerState, 4)
    try number(Field.peerFrame, 4)
  }

  package func publication() throws(LiveUpdateError) {
    typealias Field = OwnPublicationState.Field
    try text(Field.path)
    try number(Field.controlPage, 4)
    try number(Field.port, 4)
  }
}
