public import XenGrant

/// Why a grant directory is refused.
public enum DirectoryError: Error, Equatable, Sendable {
  /// The buffer has no bytes.
  case emptyBuffer
  /// The buffer is larger than this side accepts.
  case tooLarge(byteCount: Int, limit: Int)
  /// The buffer has more pages than gntdev takes in one request.
  case tooManyPages(pages: Int, limit: Int)
  /// The first directory page's reference is 0.
  case noDirectory
  /// A directory page cannot be copied.
  case unreadable(XenError)
  /// A directory page cannot be written.
  case unwritable(XenError)
  /// There are fewer linked directory pages than the references need.
  case tooFewPages(pages: Int, needed: Int)
  /// The list ends before it has a reference for each page of the buffer.
  case tooShort(references: Int, pages: Int)
  /// There are references after the last page of the buffer.
  case extraReference(GrantReference, pages: Int)
  /// There is a directory page after the one that completes the list; counted from 0.
  case extraPage(page: Int)
  /// A reference in the middle of the list is 0; the index counts from 0.
  case zeroReference(index: Int)
  /// A reference comes twice; the index, from 0, is that of the second.
  case repeatedReference(GrantReference, index: Int)
  /// A directory page is followed by one that came before.
  case cycle(GrantReference)
}

extension DirectoryError: CustomStringConvertible {
  /// One line: what is wrong with the directory, and what it should be.
  public var description: String {
    switch self {
    case .emptyBuffer: "the buffer's size must be at least 1 byte"
    case .tooLarge(let byteCount, let limit):
      "a buffer of \(byteCount) bytes is above the limit of \(limit) bytes a buffer"
    case .tooManyPages(let pages, let limit):
      "a buffer of \(pages) pages is above gntdev's limit of \(limit) pages a request; "
        + "raise /sys/module/xen_gntdev/parameters/limit"
    case .noDirectory: "the directory's grant reference is 0, which is never granted"
    case .unreadable(let error): "the directory cannot be read: \(error)"
    case .unwritable(let error): "the directory cannot be written: \(error)"
    case .tooFewPages(let pages, let needed):
      "the directory has \(pages) pages, and the buffer's references need \(needed)"
    case .tooShort(let references, let pages):
      "the directory lists \(references) references for a buffer of \(pages) pages"
    case .extraReference(let reference, let pages):
      "the directory continues with reference \(reference) after the \(pages) pages of the buffer"
    case .extraPage(let page):
      "the directory continues after its page \(page), which completes the buffer"
    case .zeroReference(let index): "the directory's reference \(index) is 0"
    case .repeatedReference(let reference, let index):
      "the directory's reference \(index) repeats \(reference)"
    case .cycle(let reference): "the directory comes back to its page \(reference)"
    }
  }
}
