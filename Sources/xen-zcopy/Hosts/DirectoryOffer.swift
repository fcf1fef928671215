import EventLoop
import XenGrant
import ZcopyBackend

/// A directory of this process in which another domain lists a buffer's references, for either host.
///
/// Its pages stay granted until this object ends.
final class DirectoryOffer {
  /// The buffer, with the directory that was offered.
  let parameters: MapParameters
  private let directory: OfferedDirectory
  private let watch: DomainWatch

  /// Offers a directory for the buffer that a request describes, and reports it.
  ///
  /// - Throws: `ShareError` if Xen refuses the pages, `Failure` or `XenError` without the domain.
  init(_ memory: MapParameters, _ request: MapRequest, xen: Xen) throws {
    let limits = BufferLimits(
      bytesPerBuffer: request.byteLimit ?? BufferLimits().bytesPerBuffer,
      pagesPerRequest: GrantDeviceLimit.current() ?? GrantDeviceLimit.kernelDefault)
    watch = try DomainWatch(memory.domain, xen: xen)
    let offered = try OfferedDirectory(
      byteCount: memory.byteCount, peer: memory.domain, limits: limits, xen: xen)
    var memory = memory
    memory.directory = offered.reference
    parameters = memory
    let pages = offered.pages
    directory = consume offered
    request.offered(parameters, pages)
  }

  /// Waits until the other domain has listed all references.
  ///
  /// - Parameter isInterrupted: asked while the loop turns.
  /// - Returns: the references; nil if the wait was given up.
  /// - Throws: `Failure` if the domain ends.
  func references(
    turning loop: EventLoop, isInterrupted: () -> Bool
  ) throws -> [GrantReference]? {
    var last: [GrantReference]?
    while !isInterrupted() {
      guard try !watch.isGone() else {
        throw Failure("domain \(parameters.domain), which was to list a buffer, has ended")
      }
      // No notification marks the directory as complete: displif has its response for that. Two
      // equal reads mean that no write is incomplete.
      let references = directory.references()
      if let references, references == last { return references }
      last = references
      try loop.turn(waiting: 20)
    }
    return nil
  }
}
