import DmaBuf
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A state that is handed over")
struct LiveUpdateStateTests {
  /// The state of one live value, of any kind.
  private struct Sample {
    let name: String
    let bytes: [UInt8]
    /// Decodes bytes, and encodes the result.
    let recode: ([UInt8]) throws -> [UInt8]
    /// Resumes from bytes, with duplicates of the value's descriptors.
    let resume: ([UInt8]) throws -> Void

    init<State: LiveUpdateState>(
      _ saveState: LiveUpdate<State>,
      _ body: @escaping (State, consuming OwnedDescriptors) throws -> Void
    ) {
      name = "\(State.self)"
      bytes = saveState.state.encoded
      recode = { try State(decoding: $0).encoded }
      resume = { bytes in
        let state = try State(decoding: bytes)
        let left = try Inheritance(saveState)
        try body(state, left.take())
      }
    }
  }

  /// Passes samples of each kind to a body, while their values live; nothing may be left
  /// afterwards.
  private func withSamples(_ body: ([Sample]) throws -> Void) throws {
    let stage = try Stage()
    let before = (stage.backend.census, stage.guest.census)
    do {
      let shared = try stage.share(pages: 3)
      var request = stage.request(for: shared)
      request.geometry = try PictureGeometry(width: 16, height: 16)
      request.frameByteCount = 4096
      let mapped = try stage.map(request)
      let copied = try stage.map(request, by: [.copy])
      let releasing = try stage.map(request).close()
      let heap = try stage.share(pages: 2, from: .heap("system"))
      let file = try stage.share(pages: 2, from: .udmabuf)
      let owner = try stage.makeOwner()
      let peer = try stage.makePeer(owner)
      let published = try FaultedOperations.publish(owner, stage.guest.xen)
      func resumeMapped(_ state: MappedBufferState, _ files: consuming OwnedDescriptors) throws {
        _ = try MappedBuffer(
          resuming: state, files, xen: stage.backend.xen, dmaBufs: stage.backend.dmaBufs)
      }
      func resumeShared(_ state: SharedBufferState, _ files: consuming OwnedDescriptors) throws {
        let buffer = try SharedBuffer(
          resuming: state, files, xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs)
        buffer.relinquish()
      }
      try body([
        Sample(try mapped.saveState(), resumeMapped),
        Sample(try copied.saveState(), resumeMapped),
        Sample(releasing.saveState()) {
          _ = try ReleasingBuffer(resuming: $0, $1, xen: stage.backend.xen)
        },
        Sample(try shared.saveState(), resumeShared),
        Sample(try heap.saveState(), resumeShared),
        Sample(try file.saveState(), resumeShared),
        Sample(owner.saveState()) {
          let link = try ExporterChannel(resuming: $0, $1, xen: stage.guest.xen)
          link.relinquish()
        },
        Sample(peer.saveState()) {
          let link = try ImporterChannel(resuming: $0, $1, xen: stage.backend.xen)
          link.relinquish()
        },
        Sample(published.saveState()) { state, _ in
          try OwnPublication(resuming: state, xen: stage.guest.xen).relinquish()
        },
      ])
      published.withdraw()
      #expect(peer.owner == owner.peer || owner.port.rawValue > 0)
      try heap.withdraw()
      try file.withdraw()
      _ = mapped.close()
      _ = copied.close()
      #expect(try releasing.isReleased())
      try shared.withdraw()
    }
    #expect(stage.backend.census(expecting: before.0) == before.0)
    // The guest keeps the nodes above what it published.
    #expect(stage.guest.census.grantsInUse == before.1.grantsInUse)
    #expect(stage.guest.census.openHandles == before.1.openHandles)
    #expect(stage.guest.census.ports == before.1.ports)
  }

  @Test("is unchanged by encoding and decoding, and small")
  func roundTrip() throws {
    try withSamples { samples in
      for sample in samples {
        #expect(try sample.recode(sample.bytes) == sample.bytes, "\(sample.name)")
        #expect(sample.bytes.count < 256, "\(sample.name)")
        try sample.resume(sample.bytes)
      }
    }
  }

  @Test("is refused if a byte is changed, missing or added, or if it is of another kind")
  func damage() throws {
    try withSamples { samples in
      for sample in samples {
        func isRefused(_ bytes: [UInt8]) -> Bool {
          do {
            _ = try sample.recode(bytes)
            return false
          } catch {
            return error is LiveUpdateError && !"\(error)".contains("\n")
          }
        }
        for index in sample.bytes.indices {
          var bytes = sample.bytes
          bytes[index] ^= UInt8(1 << (index % 8))
          #expect(isRefused(bytes), "\(sample.name): byte \(index)")
          #expect(isRefused(Array(sample.bytes[..<index])), "\(sample.name): \(index) bytes")
        }
        #expect(isRefused(sample.bytes + [0]))
        let others = samples.filter { $0.name != sample.name }
        #expect(others.allSatisfy { isRefused($0.bytes) })
      }
    }
  }

  @Test("with any contents and a correct checksum is read or refused, and affects no other value")
  func nonsense() throws {
    try withSamples { samples in
      var numbers = RepeatableNumbers(seed: 4)
      for sample in samples {
        for _ in 0..<300 {
          let bytes = sealed(sample.bytes, &numbers)
          guard let read = try? sample.recode(bytes) else { continue }
          // Unknown fields, and numbers with more bytes than needed, are dropped.
          let again = try? sample.recode(read)
          #expect(again == read, "\(sample.name)")
          try? sample.resume(bytes)
        }
      }
    }
  }

  /// A state of which some of the body is replaced, or cut off.
  private func sealed(_ bytes: [UInt8], _ numbers: inout RepeatableNumbers) -> [UInt8] {
    var body = Array(bytes[12..<bytes.count - 8])
    for _ in 0...numbers.below(3) where !body.isEmpty {
      let index = numbers.below(body.count)
      switch numbers.below(4) {
      case 0: body[index] = UInt8(truncatingIfNeeded: numbers.word())
      case 1: body[index] ^= 1
      case 2: body[index] = numbers.below(2) == 0 ? 0 : 0xFF
      default: body.removeSubrange(index...)
      }
    }
    var encoder = StateEncoder()
    encoder.append(body)
    return encoder.seal(UInt16(bytes[6]) | UInt16(bytes[7]) << 8)
  }

  @Test("of another format is refused with the format")
  func format() throws {
    try withSamples { samples in
      let sample = samples[0]
      var bytes = sample.bytes
      bytes[4] = 9
      do {
        _ = try sample.recode(bytes)
        Issue.record("it was read")
      } catch {
        #expect(error as? LiveUpdateError == .format(9))
      }
    }
  }

  @Test("may have additional numbers, texts and lists")
  func primitives() throws {
    struct Own: LiveUpdateState {
      enum Field {
        static let name: StateTag = 1
        static let time: StateTag = 2
        static let isSo: StateTag = 3
        static let isNot: StateTag = 4
        static let numbers: StateTag = 5
        static let nothing: StateTag = 6
        static let something: StateTag = 7
        static let bytes: StateTag = 8
      }
      static let kind: UInt16 = 0x8000
      let descriptorCount = 0
      var name = "größer"
      var time = Int.max
      var isSo = true
      var isNot = false
      var numbers: [UInt32] = [0, .max]
      var nothing: UInt64?
      var something: UInt64? = .max
      var bytes: [UInt8] = [0, 1, 255]

      func encode(to encoder: inout StateEncoder) {
        encoder.write(Field.name, name)
        encoder.write(Field.time, time)
        encoder.write(Field.isSo, isSo)
        encoder.write(Field.isNot, isNot)
        encoder.write(Field.numbers, numbers)
        encoder.write(Field.nothing, nothing)
        encoder.write(Field.something, something)
        encoder.write(Field.bytes, bytes)
      }

      init() {}

      init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
        name = try decoder.text(Field.name)
        time = try decoder.number(Field.time)
        isSo = try decoder.flag(Field.isSo)
        isNot = try decoder.flag(Field.isNot)
        numbers = try decoder.numbers(Field.numbers)
        nothing = try decoder.number(ifPresent: Field.nothing)
        something = try decoder.number(ifPresent: Field.something)
        bytes = decoder.bytes(Field.bytes)
      }
    }
    let read = try Own(decoding: Own().encoded)
    #expect(read == Own())
  }
}
