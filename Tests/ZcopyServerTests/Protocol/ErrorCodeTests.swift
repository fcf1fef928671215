import DmaBuf
import SystemPackage
import Testing
import XenGrant
import ZcopyBackend
import ZcopyEngine

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("Codes of errors")
struct ErrorCodeTests {
  private static let domain = DomainID.dom0

  @Test(
    "a failed call has the code of its errno",
    arguments: [
      (XenError.Call.openGrantDevice, Errno.noSuchFileOrDirectory, ErrorCode.unavailable),
      (.openGrantDevice, .permissionDenied, .unavailable),
      (.openStore, .connectionRefused, .unavailable),
      (.openEventChannels, .tooManyOpenFiles, .resources),
      (.exportDmaBuf, .noMemory, .resources),
      (.bindInterdomain, .noSpace, .resources),
      (.exportDmaBuf, .invalidArgument, .refused),
      (.map, .badAddress, .refused),
      (.bindInterdomain, .noSuchProcess, .refused),
      (.importDmaBuf, .invalidArgument, .unsupported),
      (.read, .ioError, .failed),
    ])
  func calls(_ call: XenError.Call, _ errno: Errno, _ code: ErrorCode) {
    #expect(
      RequestError(EngineError(XenError(call, errno, domain: Self.domain), Self.domain)).code
        == code)
  }

  @Test("a client's contradiction, a domain's bad offer and a limit each have their own code")
  func others() {
    #expect(
      RequestError(EngineError(MapError.rangeOutside(0..<9, size: 8), Self.domain)).code
        == .invalid)
    #expect(
      RequestError(EngineError(ShareError.impossibleSize(0), Self.domain)).code
        == .invalid)
    #expect(
      RequestError(EngineError(PublicationError.version(path: "/x", "3"), Self.domain)).code
        == .refused)
    #expect(
      RequestError(EngineError(ChannelError.unknownState(Self.domain, 9), Self.domain)).code
        == .refused)
    #expect(
      RequestError(
        EngineError(
          PublicationError.unreadable(XenError(.openStore, .connectionRefused)), Self.domain)
      ).code == .unavailable)
    #expect(RequestError.message("x").endsConnection)
    #expect(!RequestError.invalid("x").endsConnection)
  }
}
