import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Copying granted pages")
struct CopyTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain()
    guest = try machine.addDomain()
  }

  private func copyPage(
    _ reference: GrantReference, byteCount: Int
  ) throws(XenError) -> [UInt8] {
    let device = try dom0.xen.openGrantDevice()
    var bytes = [UInt8](repeating: 0xEE, count: byteCount)
    var span = bytes.mutableSpan
    // SAFETY: bytes of any value are integers.
    var raw = unsafe span.mutableBytes
    try device.copyPage(reference, of: guest.id, into: &raw)
    return bytes
  }

  @Test("A copy from the start of a page is one call")
  func start() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: false)
    pages.memory.storeByte(9, at: 6)
    let reference = try #require(pages.references.first)
    #expect(try copyPage(reference, byteCount: 8) == [0, 0, 0, 0, 0, 0, 9, 0])
    #expect(try copyPage(reference, byteCount: 4096).count == 4096)
    #expect(machine.calls[.copy] == 2)
  }

  @Test("The error of a page that cannot be copied has its reference and Xen's status")
  func refused() throws {
    let reference = GrantReference(rawValue: 99)
    let error = #expect(throws: XenError.self) { _ = try copyPage(reference, byteCount: 8) }
    #expect(error?.status == .generalError)
    #expect(error?.subject == .reference(reference))
    #expect(error?.domain == guest.id)
    guest.destroy()
    let dead = #expect(throws: XenError.self) { _ = try copyPage(reference, byteCount: 8) }
    #expect(dead?.status == .badDomain)
  }

  @Test("The error of a failed system call has no status")
  func failed() throws {
    machine.fail(.copy, with: .badAddress)
    let error = #expect(throws: XenError.self) {
      _ = try copyPage(GrantReference(rawValue: 8), byteCount: 8)
    }
    #expect(error?.errno == .badAddress)
    #expect(error?.status == nil)
  }

  @Test(
    "A copy of more than a page, or of nothing, does not reach the kernel", arguments: [0, 4097])
  func sizes(_ byteCount: Int) throws {
    let error = #expect(throws: XenError.self) {
      _ = try copyPage(GrantReference(rawValue: 8), byteCount: byteCount)
    }
    #expect(error?.errno == .invalidArgument)
    #expect(machine.calls[.copy] == 0)
  }

  @Test("An empty list of pieces is no call")
  func nothing() throws {
    let device = try dom0.xen.openGrantDevice()
    var bytes: [UInt8] = [1]
    var span = bytes.mutableSpan
    // SAFETY: bytes of any value are integers.
    var raw = unsafe span.mutableBytes
    #expect(try device.copy([], of: guest.id, into: &raw) == [])
    #expect(machine.calls[.copy] == 0)
    #expect(bytes == [1])
  }
}
