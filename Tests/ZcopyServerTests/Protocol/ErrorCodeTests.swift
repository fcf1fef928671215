import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import ZcopyBackend
import ZcopyEngine

@testable import ZcopyServer

@Suite("Codes of errors")
struct ErrorCodeTests {
  private static let domain = DomainID.dom0

  @Test(
    "a failed call has the code of its errno",
    arguments: [
      (XenError.Call.openGrantDevice, Errno.noSuchFileOrDirectory, XEN_ZCOPYD_E_UNAVAILABLE),
      (.openGrantDevice, .permissionDenied, XEN_ZCOPYD_E_UNAVAILABLE),
      (.openStore, .connectionRefused, XEN_ZCOPYD_E_UNAVAILABLE),
      (.openEventChannels, .tooManyOpenFiles, XEN_ZCOPYD_E_RESOURCES),
      (.exportDmaBuf, .noMemory, XEN_ZCOPYD_E_RESOURCES),
      (.bindInterdomain, .noSpace, XEN_ZCOPYD_E_RESOURCES),
      (.exportDmaBuf, .invalidArgument, XEN_ZCOPYD_E_REFUSED),
      (.map, .badAddress, XEN_ZCOPYD_E_REFUSED),
      (.bindInterdomain, .noSuchProcess, XEN_ZCOPYD_E_REFUSED),
      (.importDmaBuf, .invalidArgument, XEN_ZCOPYD_E_UNSUPPORTED),
      (.read, .ioError, XEN_ZCOPYD_E_FAILED),
    ])
  func calls(_ call: XenError.Call, _ errno: Errno, _ code: UInt32) {
    #expect(
      RequestError(EngineError(XenError(call, errno, domain: Self.domain), Self.domain)).code
        == code)
  }

  @Test("a client's contradiction, a domain's bad offer and a limit each have their own code")
  func others() {
    #expect(
      RequestError(EngineError(MapError.rangeOutside(0..<9, size: 8), Self.domain)).code
        == XEN_ZCOPYD_E_INVALID)
    #expect(
      RequestError(EngineError(ShareError.impossibleSize(0), Self.domain)).code
        == XEN_ZCOPYD_E_INVALID)
    #expect(
      RequestError(EngineError(PublicationError.version(path: "/x", "3"), Self.domain)).code
        == XEN_ZCOPYD_E_REFUSED)
    #expect(
      RequestError(EngineError(ChannelError.unknownState(Self.domain, 9), Self.domain)).code
        == XEN_ZCOPYD_E_REFUSED)
    #expect(
      RequestError(
        EngineError(
          PublicationError.unreadable(XenError(.openStore, .connectionRefused)), Self.domain)
      ).code == XEN_ZCOPYD_E_UNAVAILABLE)
    #expect(RequestError.message("x").endsConnection)
    #expect(!RequestError.invalid("x").endsConnection)
  }
}
