import ZcopyBackend
import ZcopyWire

/// Buffers in a table for people.
///
/// - Parameters:
///   - entries: the buffers, in the order in which they are shown.
///   - names: the domains' names.
///   - rates: frames a second, if known; nil for a table without them.
func bufferTable(
  _ entries: [ListEntry], _ names: DomainNames, rates: [BufferID: Double]? = nil
) -> [String] {
  var titles = ["ID", "DOMAIN", "KIND", ">PAGES", ">SIZE", "BY", "STATE", ">AGE"]
  if rates != nil { titles.append(">FRAMES/S") }
  var table = Table(titles + ["HOLDER", "NAME"])
  let ids = shortened(entries.map(\.id))
  for entry in entries {
    var cells = [
      ids[entry.id] ?? "", names.describe(entry.domain), entry.kind, "\(entry.pages)",
      Quantity.bytes(entry.byteCount), entry.mechanism, entry.stateName,
      Quantity.time(milliseconds: entry.ageMilliseconds),
    ]
    if let rates { cells.append(rates[entry.id].map { "\(($0 * 10).rounded() / 10)" } ?? "-") }
    table.add(cells + [entry.holder, entry.name.printed])
  }
  return table.lines
}

/// The shortest unique prefixes of identifiers, of at least 8 digits.
private func shortened(_ ids: [BufferID]) -> [BufferID: String] {
  var length = 8
  while length < 32, Set(ids.map { $0.description.prefix(length) }).count < Set(ids).count {
    length += 4
  }
  return Dictionary(
    ids.map { ($0, String($0.description.prefix(length))) }, uniquingKeysWith: { first, _ in first }
  )
}
