// SPDX-License-Identifier: MIT
// A backend of one buffer, with ZcopyEngine as a library: it maps what a guest has published, follows the guest's frames,
// and returns the buffer to the guest.
//
//     zcopy-example /local/domain/1/data/zcopy/video 10
import EventLoop
import Logging
import SystemPackage
import XenGrant
import ZcopyEngine

#if canImport(Glibc)
  import Glibc
#endif

func fail(_ error: any Error) -> Never {
  _ = try? FileDescriptor.standardError.writeAll("zcopy-example: \(error)\n".utf8)
  exit(1)
}

guard CommandLine.arguments.count == 3, let most = UInt32(CommandLine.arguments[2]), most > 0 else {
  _ = try? FileDescriptor.standardError.writeAll(
    "usage: zcopy-example /local/domain/N/data/zcopy/NAME FRAMES\n".utf8)
  exit(64)
}

do {
  let loop = try EventLoop()
  let engine = Engine(xen: Xen(SystemPlatform(logger: Logger(label: "example"))), loop: loop)
  var frames: UInt32 = 0
  var isReturned = false

  // Set the handler before the map: frames that the guest has already drawn are reported immediately.
  engine.onEvent = { buffer, event in
    switch event {
    case .frame(let number, let page):
      frames += 1
      print("frame \(number) begins at page \(page)")
      // A display backend would show buffer.fileDescriptor, a dma-buf, and report this when the screen shows another frame.
      do throws(EngineError) { try engine.frameUsed(buffer, number) } catch { fail(error) }
      if frames == most { engine.close(buffer) }
    case .closing:
      print("the guest wants its pages back")
      engine.close(buffer)
    case .peerGone(let error):
      fail(error ?? EngineError(.gone, buffer.domain, "the guest's program has ended"))
    case .late: print("still held after the release deadline")
    case .released(let error):
      if let error { fail(error) }
      isReturned = true
      loop.stop()
    case .used, .peerMapped, .peerReleased: break
    }
  }

  let buffer = try engine.map(
    publishedAt: CommandLine.arguments[1], choices: MapChoices(name: "example"))
  print("mapped \(buffer.description.pages) pages of domain \(buffer.domain)")
  if !isReturned { try loop.run() }
  print("returned after \(frames) frames")
} catch {
  fail(error)
}
