// Maps buffers of another domain in turn with this project's library and with bare C, and prints medians and ratios as
// TAP. Arguments: rounds, domain, then directory:pages for each buffer.

import Floor
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif
import Logging

struct Stop: Error, CustomStringConvertible {
  let description: String
}

/// Microseconds that the body took.
func microseconds(_ body: () throws -> Void) rethrows -> Double {
  let clock = ContinuousClock()
  let (seconds, attoseconds) = try clock.measure(body).components
  return Double(seconds) * 1e6 + Double(attoseconds) / 1e12
}

/// Figures of one thing that is done in two ways.
struct Pair {
  var ours: [Double] = []
  var floor: [Double] = []

  /// Runs both, ours first every second time: whatever drifts, drifts for both.
  mutating func run(_ round: Int, ours: () throws -> Double, floor: () throws -> Double) rethrows {
    if round % 2 == 0 {
      self.ours.append(try ours())
      self.floor.append(try floor())
    } else {
      self.floor.append(try floor())
      self.ours.append(try ours())
    }
  }

  static func median(_ figures: [Double]) -> Double {
    let sorted = figures.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  var ratio: Double { Self.median(ours) / Self.median(floor) }
}

func rounded(_ value: Double) -> String { "\((value * 1000).rounded() / 1000)" }

/// One line of TAP: the medians, their ratio, and whether that is within the limit, if there is one.
func report(_ number: Int, _ what: String, _ pair: Pair, limit: Double?) {
  let verdict = limit.map { pair.ratio <= $0 ? "ok" : "not ok" } ?? "ok"
  let bound = limit.map { ", at most \($0)" } ?? ", no limit"
  print(
    "\(verdict) \(number) - \(what): \(Int(Pair.median(pair.ours))) us, plain C \(Int(Pair.median(pair.floor))) us, "
      + "ratio \(rounded(pair.ratio))\(bound)")
}

func run() throws {
  var arguments = CommandLine.arguments.dropFirst()
  guard let rounds = arguments.popFirst().flatMap({ Int($0) }),
    let domain = arguments.popFirst().flatMap({ DomainID($0) })
  else { throw Stop(description: "usage: xen-zcopy-bench ROUNDS DOMAIN DIRECTORY:PAGES ...") }
  let xen = Xen(SystemPlatform(logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }))
  let limits = BufferLimits(bytesPerBuffer: 256 << 20)
  print("1..\(arguments.count * 3)")
  var number = 0
  for argument in arguments {
    let parts = argument.split(separator: ":").compactMap { UInt32($0) }
    guard parts.count == 2 else { throw Stop(description: "\(argument) is not DIRECTORY:PAGES") }
    let (directory, pages) = (GrantReference(rawValue: parts[0]), Int(parts[1]))
    let request = MapRequest(
      domain: domain, directory: directory, byteCount: pages * GrantReference.pageSize)
    var references = [UInt32](repeating: 0, count: pages)
    var map = Pair()
    var close = Pair()
    var walk = Pair()
    var bareWalk = Pair()
    for round in 0..<rounds {
      var closing = (ours: 0.0, floor: 0.0)
      try map.run(
        round,
        ours: {
          var buffer: MappedBuffer?
          let opening = try microseconds {
            buffer = try MappedBuffer(request, xen: xen, limits: limits)
          }
          closing.ours = try microseconds {
            guard let releasing = buffer.take()?.close() else { return }
            while try !releasing.isReleased() {}
          }
          return opening
        },
        floor: {
          var open = floor_map()
          let opening = try microseconds {
            guard
              floor_map_open(
                &open, UInt32(domain.rawValue), parts[0], parts[1], &references) == 0
            else { throw Stop(description: "the floor cannot map: errno \(errno)") }
          }
          closing.floor = try microseconds {
            guard floor_map_close(&open) == 0 else {
              throw Stop(description: "the floor cannot close: errno \(errno)")
            }
          }
          return opening
        })
      close.ours.append(closing.ours)
      close.floor.append(closing.floor)
      let device = try xen.openGrantDevice()
      let plain = floor_device_open()
      defer { floor_device_close(plain) }
      try walk.run(
        round,
        ours: {
          try microseconds {
            _ = try GrantDirectory.read(
              directory, of: domain, byteCount: request.byteCount, limits: limits, with: device)
          }
        },
        floor: {
          try microseconds {
            guard
              floor_walk_by_mapping(
                plain, UInt32(domain.rawValue), parts[0], parts[1], &references) == 0
            else { throw Stop(description: "the floor cannot walk: errno \(errno)") }
          }
        })
      try bareWalk.run(
        round,
        ours: {
          try microseconds {
            guard
              floor_walk_by_copy(
                plain, UInt32(domain.rawValue), parts[0], parts[1], &references) == 0
            else { throw Stop(description: "the floor cannot copy: errno \(errno)") }
          }
        },
        floor: {
          try microseconds {
            guard
              floor_walk_by_mapping(
                plain, UInt32(domain.rawValue), parts[0], parts[1], &references) == 0
            else { throw Stop(description: "the floor cannot walk: errno \(errno)") }
          }
        })
    }
    // A small buffer's map is a handful of calls, whose noise is larger than the limit.
    report(number + 1, "map \(pages) pages", map, limit: pages >= 256 ? 1.05 : nil)
    report(number + 2, "close and release \(pages) pages", close, limit: pages >= 256 ? 1.05 : nil)
    // One page costs one call either way, and plain C's own copy is at 0.3 of it and above.
    report(
      number + 3, "walk the directory of \(pages) pages, against mapping and unmapping its pages",
      walk,
      limit: pages > GrantDirectory.referencesPerPage ? 0.3 : nil)
    print(
      "# plain C by grant copy, unchecked: \(Int(Pair.median(bareWalk.ours))) us, "
        + "ratio \(rounded(bareWalk.ratio)) to mapping and unmapping")
    number += 3
  }
}

do {
  try run()
} catch {
  print("Bail out! \(error)")
  exit(1)
}
