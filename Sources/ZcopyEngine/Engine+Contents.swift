public import DmaBuf
import XenGrant
public import ZcopyBackend

extension Engine {
  /// The pages of a mapped buffer for the processor, offset included.
  ///
  /// - Parameters:
  ///   - buffer: a live mapped buffer.
  ///   - access: what will be done with them.
  /// - Returns: the pages, which may outlive the buffer: they stay mapped until the last reference
  ///   to them is dropped. By the mechanism `copy` they are the copy; ``refresh(_:_:then:)`` and
  ///   ``writeBack(_:_:then:)`` transfer it.
  /// - Throws: `EngineError.gone` for a closed buffer, or an error of Xen.
  public func contents(
    of buffer: Buffer, for access: ContentsAccess = .read
  ) throws(EngineError) -> any BufferContents {
    do throws(MapError) {
      if let contents = try buffer.mapped?.mapContents(for: access) { return contents }
    } catch {
      throw EngineError(error, buffer.domain)
    }
    throw Self.closed(buffer)
  }

  /// Lends the memory of a shared buffer to the processor. The peer may read and write it at any
  /// time.
  ///
  /// - Parameters:
  ///   - buffer: a live shared buffer.
  ///   - access: the kind of access. The call waits for devices that use the dma-buf otherwise, see
  ///     ``isIdle(_:for:)``.
  ///   - body: gets the memory.
  /// - Throws: `EngineError.gone` for a closed buffer, `ShareError` if the processor gets no access,
  ///   and what the body throws.
  public func withMemory(
    of buffer: Buffer, _ access: BufferAccess = .readWrite,
    _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    guard try buffer.shared?.withMemory(access, body) != nil else { throw Self.closed(buffer) }
  }

  /// Whether no device uses a shared buffer in a way that such access would have to wait for; true
  /// for a closed one.
  ///
  /// - Throws: `EngineError` if the kernel cannot be asked.
  public func isIdle(_ buffer: Buffer, for access: BufferAccess) throws(EngineError) -> Bool {
    do throws(ShareError) {
      return try buffer.shared?.isIdle(for: access) ?? true
    } catch {
      throw EngineError(error, buffer.domain)
    }
  }

  /// Copies what the domain has drawn into a buffer of the mechanism `copy`, once no device reads
  /// the copy.
  ///
  /// - Parameters:
  ///   - buffer: a live mapped buffer.
  ///   - range: bytes of the buffer.
  ///   - then: called from the loop, with an error if the copy failed or the buffer was closed.
  public func refresh(
    _ buffer: Buffer, _ range: Range<Int>, then: @escaping (EngineError?) -> Void
  ) {
    copy(.refresh, of: buffer, [range], for: Self.own, tag: 0) { _, error in then(error) }
  }

  /// Copies what was drawn here to the domain, for a buffer of the mechanism `copy`.
  ///
  /// - Parameters:
  ///   - buffer: a live mapped buffer.
  ///   - range: bytes of the buffer.
  ///   - then: called from the loop, with an error if the copy failed or the buffer was closed.
  public func writeBack(
    _ buffer: Buffer, _ range: Range<Int>, then: @escaping (EngineError?) -> Void
  ) {
    copy(.writeBack, of: buffer, [range], for: Self.own, tag: 0) { _, error in then(error) }
  }

  /// Copies that no holder has asked for.
  private static let own = HolderID(rawValue: 0)

  private static func closed(_ buffer: Buffer) -> EngineError {
    EngineError(.gone, buffer.domain, "buffer \(buffer.id) is closed")
  }
}
