import CZcopy
public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// The linked list of pages in which one domain passes another the grant references of a buffer.
///
/// A page holds the reference of the next page (0 at the end) and up to 1023 references of the
/// buffer's pages, as displif, sndif and cameraif define it. It is the guest's memory and may hold
/// anything.
///
/// The C type is `struct xendispl_page_directory`.
public enum GrantDirectory {
  /// References in one directory page.
  public static let referencesPerPage = Int(XEN_ZCOPY_DIRECTORY_REFERENCES)

  /// The words of a directory page: the next page's reference and those of the buffer.
  static let wordsPerPage = referencesPerPage + 1

  /// How many directory pages a list of that many references takes.
  public static func pages(for references: Int) -> Int {
    references / referencesPerPage + (references % referencesPerPage == 0 ? 0 : 1)
  }

  /// Reads a directory from another domain's memory, page by page. Each page is copied once and not
  /// read again.
  ///
  /// Costs one grant copy, which is one system call, for each directory page.
  ///
  /// - Parameters:
  ///   - first: the reference of the first directory page.
  ///   - domain: the domain whose directory and buffer it is.
  ///   - byteCount: the buffer's size in bytes.
  ///   - limits: what is accepted at most.
  ///   - device: the grant device to copy with.
  /// - Returns: exactly one reference for each page of the buffer, none of them 0, no two the same.
  /// - Throws: `DirectoryError`, one case for each way in which a directory can be wrong.
  public static func read(
    _ first: GrantReference, of domain: DomainID, byteCount: Int, limits: BufferLimits,
    with device: borrowing GrantDevice
  ) throws(DirectoryError) -> [GrantReference] {
    var decoder = try DirectoryDecoder(first: first, byteCount: byteCount, limits: limits)
    // A page of its own: what crosses the end of one is two copies for the kernel and for Xen, nearly twice the cost.
    // SAFETY: the memory is this function's, is filled before it is looked at, and any bytes are words.
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: GrantReference.pageSize, alignment: GrantReference.pageSize)
    defer { unsafe memory.deallocate() }
    if let base = memory.baseAddress { unsafe memset(base, 0, memory.count) }
    let page = unsafe memory.bindMemory(to: UInt32.self)
    while let reference = decoder.nextPage {
      do throws(XenError) {
        var words = unsafe page.mutableSpan
        var bytes = unsafe words.mutableBytes
        try device.copyPage(reference, of: domain, into: &bytes)
      } catch {
        throw .unreadable(error)
      }
      try decoder.add(unsafe page.span)
    }
    return decoder.references
  }

  /// Writes references into a directory that another domain has made and linked, as displif's
  /// backend-allocated mode asks.
  ///
  /// The pages are walked first. Nothing is written unless there are exactly as many as the
  /// references need. Writing starts after each page's reference to the next; words after the last
  /// reference stay as they are. Costs one grant copy for each page, and one for all that is
  /// written.
  ///
  /// - Parameters:
  ///   - first: the reference of the first directory page; each page is granted writable to this domain.
  ///   - domain: the domain whose directory it is.
  ///   - references: what is written.
  ///   - device: the grant device to copy with.
  /// - Throws: `DirectoryError.noDirectory`, `.cycle`, `.tooFewPages` or `.extraPage` for another list of pages,
  ///   `.unreadable` and `.unwritable` if Xen refuses a page.
  public static func fill(
    _ first: GrantReference, of domain: DomainID, with references: [GrantReference],
    device: borrowing GrantDevice
  ) throws(DirectoryError) {
    let pages = try directoryPages(
      first, of: domain, count: Self.pages(for: references.count), device)
    let segments = pages.enumerated().map { index, page in
      let start = index * referencesPerPage
      let count = min(referencesPerPage, references.count - start)
      return GrantCopySegment(page, pageOffset: 4, local: start * 4, byteCount: count * 4)
    }
    do throws(XenError) {
      // SAFETY: a reference is its number and nothing else, and the array outlives the copy.
      unsafe try device.write(references.span.bytes, to: segments, of: domain)
    } catch {
      throw .unwritable(error)
    }
  }

  /// The references of exactly `count` linked directory pages.
  private static func directoryPages(
    _ first: GrantReference, of domain: DomainID, count: Int, _ device: borrowing GrantDevice
  ) throws(DirectoryError) -> [GrantReference] {
    guard first.rawValue != 0 else { throw .noDirectory }
    var pages: [GrantReference] = []
    var seen: Set<GrantReference> = []
    var next = first
    while next.rawValue != 0 {
      guard pages.count < count else { throw .extraPage(page: count - 1) }
      guard seen.insert(next).inserted else { throw .cycle(next) }
      pages.append(next)
      var link: [UInt32] = [0]
      do throws(XenError) {
        var words = link.mutableSpan
        // SAFETY: any bytes are words, and the array is borrowed for the copy.
        var bytes = unsafe words.mutableBytes
        try device.copyPage(next, of: domain, into: &bytes)
      } catch {
        throw .unreadable(error)
      }
      next = GrantReference(rawValue: link[0])
    }
    guard pages.count == count else {
      throw .tooFewPages(pages: pages.count, needed: count)
    }
    return pages
  }

  /// Checks a list of references that did not come in a directory.
  ///
  /// - Throws: `DirectoryError` for a list of another length, or with a reference that is 0 or comes twice.
  static func check(
    _ references: [GrantReference], byteCount: Int, limits: BufferLimits
  ) throws(DirectoryError) {
    let pages = try limits.pages(for: byteCount)
    guard references.count >= pages else {
      throw .tooShort(references: references.count, pages: pages)
    }
    guard references.count == pages else {
      throw .extraReference(references[pages], pages: pages)
    }
    // SAFETY: a reference is its number and nothing else, and the array is borrowed for the call.
    let taken = unsafe references.withUnsafeBytes { bytes in
      var list = ReferenceList(capacity: pages)
      return unsafe list.append(bytes.assumingMemoryBound(to: UInt32.self))
    }
    guard taken < pages else { return }
    let reference = references[taken]
    throw reference.rawValue == 0
      ? .zeroReference(index: taken) : .repeatedReference(reference, index: taken)
  }

  /// Lists references in directory pages of this domain's own.
  ///
  /// - Parameters:
  ///   - references: the buffer's pages, each 4 bytes in the directory.
  ///   - pages: fresh pages of gntalloc, which are zeroed, as many as the references need.
  static func list(_ references: [GrantReference], in pages: borrowing SharedPages) {
    link(pages)
    // SAFETY: a reference is its number and nothing else.
    let bytes = unsafe references.span.bytes
    for index in 0..<Self.pages(for: references.count) {
      let start = index * referencesPerPage
      let end = min(start + referencesPerPage, references.count)
      pages.memory.write(
        bytes.extracting((start * 4)..<(end * 4)), to: index * GrantReference.pageSize + 4)
    }
  }

  /// Writes the reference of the next page into each directory page; the last page, which is zeroed, has none.
  static func link(_ pages: borrowing SharedPages) {
    for (index, next) in pages.references.dropFirst().enumerated() {
      pages.memory.storeWord(next.rawValue, at: index * GrantReference.pageSize)
    }
  }
}

/// What a mapped buffer may cost at most.
public struct BufferLimits: Equatable, Sendable {
  /// The largest buffer in bytes; 64 MiB by default, eight pictures of 1920x1080.
  public var bytesPerBuffer: Int
  /// gntdev's `limit`: the most pages that one request may have; 65536 by default.
  public var pagesPerRequest: Int

  /// Limits, each at its default unless given.
  public init(
    bytesPerBuffer: Int = 64 << 20, pagesPerRequest: Int = GrantDeviceLimit.kernelDefault
  ) {
    self.bytesPerBuffer = bytesPerBuffer
    self.pagesPerRequest = pagesPerRequest
  }

  /// How many pages a buffer has, if it may be so large.
  ///
  /// - Parameter byteCount: the buffer's size in bytes.
  /// - Throws: `DirectoryError.emptyBuffer` for a size of 0 or less, `.tooLarge` or `.tooManyPages`
  ///   for one above a limit.
  func pages(for byteCount: Int) throws(DirectoryError) -> Int {
    guard byteCount > 0, let count = GrantReference.pages(for: byteCount) else {
      throw .emptyBuffer
    }
    guard byteCount <= bytesPerBuffer else {
      throw .tooLarge(byteCount: byteCount, limit: bytesPerBuffer)
    }
    guard count <= pagesPerRequest else {
      throw .tooManyPages(pages: count, limit: pagesPerRequest)
    }
    return count
  }
}
