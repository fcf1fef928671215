import XenGrant

/// Shared or mapped pages, seen one word or byte at a time.
///
/// A value cannot be consumed in a function that has looked at its `memory`; these borrow it for
/// one access.
protocol Words: ~Copyable {
  func loadWord(at offset: Int) throws -> UInt32
  func storeWord(_ word: UInt32, at offset: Int) throws
  func loadByte(at offset: Int) throws -> UInt8
  func storeByte(_ byte: UInt8, at offset: Int) throws
}

extension GrantMapping: Words {
  var byteCount: Int { memory.byteCount }

  func loadWord(at offset: Int) -> UInt32 { memory.loadWord(at: offset) }

  func storeWord(_ word: UInt32, at offset: Int) { memory.storeWord(word, at: offset) }

  func loadByte(at offset: Int) -> UInt8 { memory.loadByte(at: offset) }

  func storeByte(_ byte: UInt8, at offset: Int) { memory.storeByte(byte, at: offset) }
}
