/// Numbers formatted for people.
enum Quantity {
  /// Bytes with a binary unit, for instance `7.9 MiB`.
  static func bytes(_ count: UInt64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"]
    guard count >= 1024 else { return "\(count) B" }
    var value = Double(count) / 1024
    var unit = 0
    while value >= 1024, unit + 1 < units.count {
      value /= 1024
      unit += 1
    }
    let tenths = (value * 10).rounded() / 10
    return tenths == tenths.rounded() ? "\(Int(tenths)) \(units[unit])" : "\(tenths) \(units[unit])"
  }

  /// A time in its two largest units, for instance `3h 5m`.
  static func time(milliseconds: UInt64) -> String {
    let seconds = milliseconds / 1000
    switch seconds {
    case 0..<60: return "\(seconds)s"
    case 0..<3600: return "\(seconds / 60)m \(seconds % 60)s"
    case 0..<86400: return "\(seconds / 3600)h \(seconds / 60 % 60)m"
    default: return "\(seconds / 86400)d \(seconds / 3600 % 24)h"
    }
  }

  /// The use of a limit: an optional bar, and the percentage; only the amount if there is no limit.
  static func use(
    _ used: UInt64, of limit: UInt64, hasBar: Bool = true, _ describe: (UInt64) -> String
  ) -> String {
    guard limit > 0 else { return describe(used) }
    let share = Double(used) / Double(limit)
    let percent = Int(min(share, 1e6) * 100)
    let text = "\(percent)% \(describe(used)) of \(describe(limit))"
    guard hasBar else { return text }
    let marks = Int((min(share, 1) * Double(barWidth)).rounded(.up))
    let bar = String(repeating: "#", count: marks) + String(repeating: ".", count: barWidth - marks)
    return "[\(bar)] \(text)"
  }

  private static let barWidth = 10
}
