import SystemPackage
import XenGrant

/// One page that a domain grants to another.
struct GrantEntry: Sendable {
  let frame: PageFrame
  let grantee: DomainID
  let isWritable: Bool
  /// Whether the page belongs to the domain: Xen maps no other page for the grantee.
  let isOwn: Bool
  /// How often it is mapped.
  var maps = 0
  /// Whether it was withdrawn while it was mapped. Linux frees it when it is unmapped; until then
  /// it stays valid.
  var isDeferred = false
}

/// A domain's grant table, version 1.
struct GrantTable: Sendable {
  /// 4096 bytes of entries of 8 bytes.
  static let entriesPerFrame = 512
  /// Entries that the toolstack uses for the console and XenStore.
  static let reservedEntries = 8

  private let maxFrames: Int
  private var entries: [GrantEntry?]
  private var free: [UInt32] = []
  private var nextUnused = UInt32(Self.reservedEntries)

  init(maxFrames: Int) {
    self.maxFrames = maxFrames
    entries = Array(repeating: nil, count: Self.entriesPerFrame)
  }

  /// References that stand for a page, deferred ones included.
  var references: [GrantReference] {
    entries.indices.compactMap { index in
      entries[index].map { _ in GrantReference(rawValue: UInt32(index)) }
    }
  }

  var inUse: Int { Int(nextUnused) - Self.reservedEntries - free.count }
  var deferred: Int { entries.count { $0?.isDeferred == true } }
  var available: Int { maxFrames * Self.entriesPerFrame - Self.reservedEntries - inUse }

  /// Whether the table, as large as it is now, has such an entry.
  func covers(_ reference: GrantReference) -> Bool { reference.rawValue < entries.count }

  subscript(reference: GrantReference) -> GrantEntry? {
    get { covers(reference) ? entries[Int(reference.rawValue)] : nil }
    set { entries[Int(reference.rawValue)] = newValue }
  }

  /// Grants pages; the table grows by whole frames.
  mutating func grant(
    _ frames: [PageFrame], to grantee: DomainID, writable: Bool, isOwn: Bool = true
  ) throws(Errno) -> [GrantReference] {
    guard frames.count <= available else { throw .noSpace }
    return frames.map { frame in
      let number: UInt32
      if let last = free.popLast() {
        number = last
      } else {
        number = nextUnused
        nextUnused += 1
        if Int(number) == entries.count {
          entries += Array(repeating: nil, count: Self.entriesPerFrame)
        }
      }
      entries[Int(number)] = GrantEntry(
        frame: frame, grantee: grantee, isWritable: writable, isOwn: isOwn)
      return GrantReference(rawValue: number)
    }
  }

  /// Frees an unmapped entry and returns its page.
  mutating func remove(_ reference: GrantReference) -> PageFrame? {
    guard let entry = self[reference] else { return nil }
    self[reference] = nil
    free.append(reference.rawValue)
    return entry.frame
  }
}
