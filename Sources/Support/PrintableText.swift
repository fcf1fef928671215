/// Untrusted text as a part of one line: short, and without characters that a terminal would obey
/// or not show.
///
/// - Parameters:
///   - text: what a guest, a client or a file says.
///   - limit: the most characters that are kept, as Unicode counts them.
package func printable(_ text: some StringProtocol, limit: Int = 40) -> String {
  var line = String.UnicodeScalarView()
  for scalar in text.unicodeScalars.prefix(limit) {
    switch scalar.properties.generalCategory {
    // Control characters, those that turn the direction of writing, and line ends.
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
      line.append("?")
    default: line.append(scalar)
    }
  }
  return String(line)
}
