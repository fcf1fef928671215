import CZcopy
import ZcopyTestKit

/// A change to a valid message before it is sent.
enum Mutation {
  /// Changes a message in one to three places, or its length.
  static func apply(to message: inout [UInt8], _ random: inout RepeatableNumbers) {
    for _ in 0...random.below(3) {
      // Mutations that end the connection are rare, so that conversations make progress.
      switch random.below(100) {
      case 0..<60: changeWord(in: &message, &random)
      case 60..<75: flipBit(in: &message, &random)
      case 75..<92: changeByte(in: &message, &random)
      case 92..<94: truncate(&message, &random)
      case 94..<96: extend(&message, &random)
      case 96..<98: store(random.edgeWord(), at: 4, in: &message)
      default: store(UInt32(random.below(20)), at: 0, in: &message)
      }
    }
    if !random.oneIn(16) { store(UInt32(message.count), at: 4, in: &message) }
  }

  private static func changeWord(in message: inout [UInt8], _ random: inout RepeatableNumbers) {
    guard message.count >= 20 else { return }
    // Not the header, which has cases of its own.
    store(random.edgeWord(), at: 16 + random.below((message.count - 16) / 4) * 4, in: &message)
  }

  private static func flipBit(in message: inout [UInt8], _ random: inout RepeatableNumbers) {
    guard !message.isEmpty else { return }
    message[random.below(message.count)] ^= 1 << UInt8(random.below(8))
  }

  private static func changeByte(in message: inout [UInt8], _ random: inout RepeatableNumbers) {
    guard !message.isEmpty else { return }
    message[random.below(message.count)] = random.one(of: [0, 1, 0x7f, 0x80, 0xc3, 0xff])
  }

  private static func truncate(_ message: inout [UInt8], _ random: inout RepeatableNumbers) {
    message.removeLast(random.below(message.count + 1))
  }

  private static func extend(_ message: inout [UInt8], _ random: inout RepeatableNumbers) {
    let most = random.oneIn(64) ? Int(XEN_ZCOPYD_MESSAGE_MAX) + 64 : 64
    message += repeatElement(UInt8(truncatingIfNeeded: random.next()), count: random.below(most))
  }

  static func store(_ word: UInt32, at offset: Int, in message: inout [UInt8]) {
    guard offset + 4 <= message.count else { return }
    for byte in 0..<4 {
      message[offset + byte] = UInt8(truncatingIfNeeded: word >> (8 * UInt32(byte)))
    }
  }
}
