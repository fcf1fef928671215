// Maps, shares and copies buffers in turn with this project's library and with bare C, and maps them through xen-zcopyd,
// which must run; prints lower quartiles and their ratios as TAP. Arguments: rounds, the guest's domain, then DIRECTORY:PAGES for each
// buffer that the guest shares.

import Floor
import Logging
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A picture of 1920x1080, and one of 3840x2160, of four bytes a pixel.
let pictures = [2025, 8100]

func run() throws {
  let arguments = CommandLine.arguments.dropFirst()
  let buffers = arguments.dropFirst(2).compactMap(GuestBuffer.init)
  guard arguments.count >= 2, let rounds = arguments.first.flatMap({ Int($0) }),
    let guest = arguments.dropFirst().first.flatMap({ DomainID($0) }),
    buffers.count == arguments.count - 2
  else { throw Stop(description: "usage: xen-zcopy-bench ROUNDS DOMAIN DIRECTORY:PAGES ...") }
  let xen = Xen(SystemPlatform(logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }))
  var bench = Bench(xen, guest: guest, rounds: rounds)
  for buffer in buffers { try bench.map(buffer) }
  try bench.sendMessages()
  for buffer in buffers { try bench.mapThroughDaemon(buffer) }
  for pages in pictures { try bench.share(pages: pages) }
  try bench.pool(pages: pictures[0])
  if let picture = buffers.first(where: { $0.pages == pictures[0] }) { try bench.refresh(picture) }
  bench.report.end()
}

floor_keep_heap()

do {
  try run()
} catch {
  print("Bail out! \(error)")
  exit(1)
}
