import DmaBuf
import SystemPackage
import XenGrant

/// Checks, in a PV domain, that the granted pages of a dma-buf are its memory.
///
/// Pages that are contiguous for the kernel of a PV domain may not be contiguous in machine memory.
/// Where one entry of a dma-buf's scatter list spans such pages, the kernel substitutes a bounce
/// buffer (swiotlb-xen). gntdev then grants the bounce buffer's pages. What the peer writes there
/// arrives when the dma-buf is released, if ever. So the dma-buf is granted to this domain first,
/// which changes a word of each page and checks through the grant whether it has changed.
enum BounceCheck {
  /// Grants a dma-buf to this domain and compares.
  ///
  /// - Parameters:
  ///   - dmaBuf: the dma-buf, which no device may be using; a word of each page changes for a
  ///     moment.
  ///   - mapping: its memory.
  ///   - own: this domain, a PV one: another would lose its own pages by mapping them, though not by copying.
  /// - Throws: `ShareError.bounced` if a page is not the granted one; `.xen` and `.memory` if that
  ///   cannot be checked.
  static func run(
    _ dmaBuf: borrowing DmaBuf, _ mapping: borrowing LocalMapping, own: DomainID, _ xen: Xen
  ) throws(ShareError) {
    let count = dmaBuf.byteCount / GrantReference.pageSize
    do {
      let device = try xen.openGrantDevice()
      let references = try device.importDmaBuf(dmaBuf.fileDescriptor, to: own, pages: count)
      let isSame = try dmaBuf.withProcessorAccess(.readWrite) {
        try grants(references, of: own, show: mapping.memory, device)
      }
      guard isSame else { throw ShareError.bounced }
    } catch let error as ShareError {
      throw error
    } catch let error as XenError {
      throw .xen(error)
    } catch let error as DmaBufError {
      throw .memory(error)
    } catch {
      // Nothing else is thrown above.
      throw .bounced
    }
  }

  /// Whether a change of the memory is seen through the grants. The memory is as it was, afterwards.
  private static func grants(
    _ references: [GrantReference], of own: DomainID, show memory: borrowing SharedMemory,
    _ device: borrowing GrantDevice
  ) throws -> Bool {
    let offsets = references.indices.map { $0 * GrantReference.pageSize }
    let words = offsets.map { memory.loadWord(at: $0) }
    for (offset, word) in zip(offsets, words) { memory.storeWord(~word, at: offset) }
    defer { for (offset, word) in zip(offsets, words) { memory.storeWord(word, at: offset) } }
    let segments = references.enumerated().map { index, reference in
      GrantCopySegment(reference, local: index * 4, byteCount: 4)
    }
    var seen = words
    var span = seen.mutableSpan
    // SAFETY: any bytes are words, and the array is borrowed for the copy.
    var bytes = unsafe span.mutableBytes
    let statuses = try device.copy(segments, of: own, into: &bytes)
    if let index = statuses.firstIndex(where: { $0 != .okay }) {
      throw XenError(
        .copy, .ioError, domain: own, subject: .reference(references[index]),
        status: statuses[index])
    }
    return zip(seen, words).allSatisfy { $0 == ~$1 }
  }
}
