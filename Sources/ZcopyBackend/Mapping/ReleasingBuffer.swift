public import XenGrant

/// A buffer that is closed here, until the kernel has unmapped its pages.
///
/// It may still have holders: a device that imported it, a process that got its descriptor, a
/// caller here that has its contents.
public struct ReleasingBuffer: ~Copyable {
  /// The domain that owns the memory.
  public let domain: DomainID
  /// How many pages of it are concerned.
  public let pages: Int
  /// The dma-buf's inode number, by which its holders are found; nil where none holds the domain's pages.
  public let inode: UInt64?
  /// The descriptor number by which the device knows the dma-buf; nil where there is nothing to be asked.
  let number: Int32?
  private let contents: HandedOutContents
  let device: GrantDevice?

  init(
    domain: DomainID, pages: Int, inode: UInt64?, number: Int32?,
    contents: HandedOutContents,
    device: consuming GrantDevice?
  ) {
    self.domain = domain
    self.pages = pages
    self.inode = inode
    self.number = number
    self.contents = contents
    self.device = device
  }

  /// Whether the pages have no holder any more, so that their owner may use them again. Never
  /// blocks.
  ///
  /// - Throws: `MapError.xen` if the kernel cannot be asked.
  public borrowing func isReleased() throws(MapError) -> Bool {
    guard contents.isEmpty else { return false }
    guard let number else { return true }
    switch device {
    case .some(let device):
      do throws(XenError) {
        return try device.isReleased(dmaBufNumber: number)
      } catch {
        throw .xen(error)
      }
    case .none: return true
    }
  }
}
