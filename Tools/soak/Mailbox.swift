import DmaBuf
import XenGrant
import ZcopyBackend

/// Lists of numbers that the two sides send in turn. Each side writes to a page of its own,
/// which the other maps.
final class Letters {
  private let conversation: Conversation
  private let mine: SharedBuffer
  private let theirs: any BufferContents

  /// Makes the page and maps the other side's. Domain 0 sends first, and again after the guest.
  init(_ conversation: Conversation, xen: Xen, with other: DomainID) throws {
    let page = try SharedBuffer(byteCount: GrantReference.pageSize, peer: other, xen: xen)
    var reference: UInt32 = 0
    if other != .dom0 { try conversation.say(page.directory.rawValue) }
    reference = try conversation.hear()
    if other == .dom0 { try conversation.say(page.directory.rawValue) }
    let request = MapParameters(
      domain: other, directory: GrantReference(rawValue: reference),
      byteCount: GrantReference.pageSize)
    theirs = try MappedBuffer(request, xen: xen, mechanisms: [.cpu]).mapContents()
    mine = consume page
    self.conversation = conversation
  }

  func send(_ words: [UInt32]) throws {
    try mine.withMemory(.write) { memory in
      for (index, word) in words.enumerated() { memory.storeWord(word, at: index * 4) }
    }
    try conversation.say(UInt32(words.count))
  }

  func receive(within seconds: Int = Conversation.timeout) throws -> [UInt32] {
    let count = Int(try conversation.hear(within: seconds))
    guard count * 4 <= GrantReference.pageSize else { throw Stop("\(count) words exceed a page") }
    return theirs.withMemory { memory in (0..<count).map { memory.loadWord(at: $0 * 4) } }
  }
}
