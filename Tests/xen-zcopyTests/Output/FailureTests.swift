import ArgumentParser
import DmaBuf
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant

@testable import ZcopyBackend
@testable import xen_zcopy

@Suite("A failure of the command")
struct FailureTests {
  private func xen(_ call: XenError.Call, _ errno: Errno) -> XenError {
    XenError(call, errno, domain: .dom0)
  }

  @Test(
    "that no device or no XenStore is there has exit code 69",
    arguments: [
      .openGrantDevice, .openGrantAllocator, .openEventChannels, .openStore,
    ] as [XenError.Call])
  func unavailable(call: XenError.Call) {
    for errno in [Errno.noSuchFileOrDirectory, .permissionDenied, .resourceTemporarilyUnavailable] {
      let error = xen(call, errno)
      for failure in [
        Failure(error), Failure(MapError.xen(error)), Failure(ChannelError.xen(error)),
        Failure(PublicationError.unreadable(error)), Failure(ShareError.xen(error)),
      ] {
        #expect(failure.code == .unavailable)
        #expect(failure.code.rawValue == 69)
        #expect(failure.description == error.description)
      }
    }
  }

  @Test("that this kernel or domain cannot make a dma-buf has exit code 69")
  func refused() {
    let error = xen(.exportDmaBuf, .invalidArgument)
    #expect(Failure(MapError.refused(error, .notBuilt)).code.rawValue == 69)
    #expect(Failure(MapError.refused(error, .refusedInPVDomain)).code.rawValue == 69)
    let shared = ShareError.noDmaBufs(.dom0, .pvGuest)
    #expect(Failure(shared).code.rawValue == 69)
    #expect(Failure(shared).description == "\(shared)")
    // Where it could, the request is at fault.
    #expect(Failure(MapError.refused(error, .usable)).code.rawValue == 1)
  }

  @Test("of several mechanisms has exit code 69 where each of them has no device or support")
  func noMechanism() {
    let notBuilt = PassedOver(
      mechanism: .dmabuf, reason: .refused(xen(.exportDmaBuf, .invalidArgument), .notBuilt))
    let noUdmabuf = PassedOver(
      mechanism: .copy, reason: .memory(DmaBufError(.makeDmaBuf, .noSuchFileOrDirectory)))
    let refused = PassedOver(mechanism: .cpu, reason: .xen(xen(.map, .invalidArgument)))
    let unavailable = MapError.noMechanism(.dom0, [notBuilt, noUdmabuf])
    #expect(Failure(unavailable).code.rawValue == 69)
    #expect(Failure(unavailable).description == "\(unavailable)")
    #expect(Failure(MapError.noMechanism(.dom0, [notBuilt, refused])).code.rawValue == 1)
    #expect(Failure(noUdmabuf.reason).code.rawValue == 69)
  }

  @Test(
    "that Linux has no such device has exit code 69",
    arguments: [
      (.makeDmaBuf, .noSuchFileOrDirectory, 69), (.makeDmaBuf, .permissionDenied, 69),
      (.makeDmaBuf, .operationNotSupportedByDevice, 69), (.makeDmaBuf, .invalidArgument, 1),
      (.allocate, .noSuchFileOrDirectory, 69), (.allocate, .noMemory, 1),
      (.identify, .badFileDescriptor, 1),
    ] as [(DmaBufError.Call, Errno, Int32)])
  func noDevice(call: DmaBufError.Call, errno: Errno, code: Int32) {
    let error = DmaBufError(call, errno)
    for failure in [
      Failure(error), Failure(MapError.memory(error)), Failure(ShareError.memory(error)),
    ] {
      #expect(failure.code.rawValue == code)
      #expect(failure.description == "\(error)")
    }
  }

  @Test("that may be gone the next time has exit code 75")
  func tryAgain() {
    let error = xen(.endTransaction, .resourceTemporarilyUnavailable)
    #expect(Failure(error).code.rawValue == 75)
    #expect(Failure(PublicationError.unreadable(error)).code.rawValue == 75)
    #expect(Failure(MapError.refused(xen(.exportDmaBuf, .wouldBlock), .usable)).code.rawValue == 75)
    #expect(Failure("later", .tryAgain).code.rawValue == 75)
  }

  @Test("of any other kind has exit code 1 and the error's own words")
  func other() throws {
    let errors: [any Error] = [
      xen(.map, .invalidArgument), xen(.bindInterdomain, .noSuchProcess),
      MapError.directory(.noDirectory, .dom0), MapError.offsetBeyondSize(offset: 2, size: 1),
      MapError.memory(DmaBufError(.identify, .badFileDescriptor, subject: .dmaBuf(7))),
      ChannelError.unknownState(.dom0, 9),
      ChannelError.noControlPage(.dom0, magic: 0, version: 0), PublicationError.noOwner(path: "/x"),
      GeometryError.emptyPicture(width: 0, height: 0), PictureError.notPNG(path: "a.png"),
      DmaBufError(.setName, .notPermitted, subject: .dmaBuf(7)),
    ]
    for error in errors {
      #expect(Failure(error).code.rawValue == 1)
      #expect(Failure(error).description == "\(error)")
    }
    #expect(Failure(Errno.noSpace).code.rawValue == 1)
    #expect(Failure(Errno.noSpace).description.contains("ENOSPC"))
    #expect(Failure(Failure("words", .unavailable)).code.rawValue == 69)
  }
}
