import Testing
import XenGrant

@Suite("Numbers outside of Xen's ranges give nil")
struct BoundsTests {
  @Test("Domain ids end before Xen's special identifiers")
  func domains() {
    #expect(DomainID(rawValue: 0) == .dom0)
    #expect(DomainID(rawValue: 32_751)?.rawValue == 32_751)
    #expect(DomainID(rawValue: 32_752) == nil)
    #expect(DomainID(rawValue: .max) == nil)
  }

  @Test(
    "A domain's number in text is decimal and nothing else",
    arguments: ["+5", "", " 1", "1 ", "-1", "0x1", "32752", "65536", "1.0", "one"])
  func noDomain(_ text: String) { #expect(DomainID(text) == nil) }

  @Test("A domain's number in text")
  func domainText() {
    #expect(DomainID("0") == .dom0)
    #expect(DomainID("17")?.description == "17")
    #expect(DomainID.dom0 < DomainID("17") ?? .dom0)
  }

  @Test("Ports fit libxenevtchn's signed results")
  func ports() {
    #expect(EventChannelPort(rawValue: 0x7FFF_FFFF) != nil)
    #expect(EventChannelPort(rawValue: 0x8000_0000) == nil)
  }

  @Test("The number of pages for bytes is rounded up, also near the largest number")
  func pages() {
    #expect(GrantReference.pages(for: 0) == 0)
    #expect(GrantReference.pages(for: 1) == 1)
    #expect(GrantReference.pages(for: 4096) == 1)
    #expect(GrantReference.pages(for: 4097) == 2)
    #expect(GrantReference.pages(for: -1) == nil)
    #expect(GrantReference.pages(for: .max) == Int.max / 4096 + 1)
  }

  @Test("A notification has an effect, and lies within its page")
  func notifications() {
    let port = EventChannelPort(rawValue: 3)
    #expect(UnmapNotification(clearing: nil, notifying: nil) == nil)
    #expect(UnmapNotification(clearing: -1, notifying: port) == nil)
    #expect(UnmapNotification(clearing: 4096, notifying: port) == nil)
    #expect(UnmapNotification(clearing: 4095, notifying: nil)?.byteOffset == 4095)
    #expect(UnmapNotification(clearing: nil, notifying: port)?.port == port)
  }

  @Test("Permissions: the owner and domain 0 have full access, others what they were given")
  func permissions() throws {
    let owner = try #require(DomainID(rawValue: 3))
    let reader = try #require(DomainID(rawValue: 4))
    let stranger = try #require(DomainID(rawValue: 5))
    let permissions = StorePermissions(owner: owner, others: .write, domains: [reader: .read])
    for domain in [owner, .dom0] {
      #expect(permissions.allowsReading(by: domain) && permissions.allowsWriting(by: domain))
    }
    #expect(permissions.allowsReading(by: reader))
    #expect(!permissions.allowsWriting(by: reader))
    #expect(!permissions.allowsReading(by: stranger))
    #expect(permissions.allowsWriting(by: stranger))
  }
}
