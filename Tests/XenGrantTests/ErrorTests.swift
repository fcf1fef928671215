import SystemPackage
import Testing
import XenGrant

@Suite("Errors state the failed call, its subject, the cause and the remedy")
struct ErrorTests {
  @Test("Every call has a description in words", arguments: XenError.Call.allCases)
  func actions(_ call: XenError.Call) {
    let error = XenError(call, .ioError)
    let line = error.description
    #expect(line.hasPrefix("cannot "))
    #expect(!line.hasPrefix("cannot :"))
    #expect(line.contains("EIO from \(call.rawValue)"))
    #expect(!line.contains("\n"))
    // An action in words, not the name of the call.
    #expect(line.prefix { $0 != ":" }.contains(call.rawValue) == false)
  }

  @Test("A line names the call's subject and the other domain")
  func circumstances() throws {
    let guest = try #require(DomainID(rawValue: 7))
    let port = try #require(EventChannelPort(rawValue: 12))
    let lines = [
      XenError(
        .map, .ioError, domain: guest, subject: .reference(GrantReference(rawValue: 99))
      ).description,
      XenError(.share, .ioError, domain: guest, subject: .pages(1)).description,
      XenError(.share, .ioError, domain: guest, subject: .pages(2)).description,
      XenError(.bindInterdomain, .ioError, domain: guest, subject: .port(port)).description,
      XenError(.importDmaBuf, .ioError, domain: guest, subject: .fileDescriptor(5)).description,
      XenError(.read, .ioError, subject: .path("data/key")).description,
      XenError(.exportDmaBuf, .ioError, domain: guest, subject: .references(count: 1)).description,
    ]
    let beginnings = [
      "cannot map grant reference 99 of domain 7: ",
      "cannot share 1 page with domain 7: ",
      "cannot share 2 pages with domain 7: ",
      "cannot connect to event channel 12 of domain 7: ",
      "cannot grant the pages of the dma-buf behind file descriptor 5 to domain 7: ",
      "cannot read XenStore node data/key: ",
      "cannot make a dma-buf of 1 grant reference of domain 7: ",
    ]
    for (line, beginning) in zip(lines, beginnings) {
      #expect(line.hasPrefix(beginning), "\(line)")
    }
  }

  @Test("An error shows Xen's own status in place of the errno")
  func status() {
    let error = XenError(.copy, .ioError, status: .badReference)
    #expect(error.description.hasSuffix("not granted to this domain (GNTST_bad_gntref)"))
    #expect(!error.description.contains("EIO"))
    #expect(GrantStatus(rawValue: -77).description == "grant status -77")
  }

  @Test(
    "An error includes advice",
    arguments: [
      (XenError.Call.openGrantDevice, Errno.noSuchFileOrDirectory, "xen-gntdev"),
      (.openGrantAllocator, .noSuchFileOrDirectory, "xen-gntalloc"),
      (.openEventChannels, .noSuchFileOrDirectory, "xen-evtchn"),
      (.openStore, .connectionRefused, "xenstored"),
      (.openGrantDevice, .permissionDenied, "root"),
      (.exportDmaBuf, .inappropriateIOCTLForDevice, "CONFIG_XEN_GNTDEV_DMABUF"),
      (.share, .noSpace, "limit"),
    ])
  func advice(_ call: XenError.Call, _ errno: Errno, _ word: String) {
    let line = XenError(call, errno).description
    #expect(line.contains(word), "\(line)")
    #expect(!XenError(call, .ioError).description.contains(word))
  }

  @Test("Errnos have their C names")
  func symbols() {
    #expect(Errno.invalidArgument.symbol == "EINVAL")
    #expect(Errno(rawValue: 99_999).symbol == "error 99999")
  }
}
