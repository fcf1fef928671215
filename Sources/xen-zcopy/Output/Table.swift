/// Rows of text in columns, each as wide as its longest cell.
struct Table {
  /// The alignment of a column.
  enum Alignment { case left, right }

  private let columns: [(title: String, alignment: Alignment)]
  private var rows: [[String]] = []

  /// A table without rows. Titles that begin with `>` mark columns of numbers, which are
  /// right-aligned.
  init(_ titles: [String]) {
    columns = titles.map { title in
      title.hasPrefix(">") ? (String(title.dropFirst()), .right) : (title, .left)
    }
  }

  /// Adds a row, with a cell for each column.
  mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The lines, titles first.
  var lines: [String] {
    let all = [columns.map(\.title)] + rows
    let widths = columns.indices.map { column in
      all.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    return all.map { row in
      let cells = zip(columns.indices, row).map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return columns[column].alignment == .right ? space + cell : cell + space
      }
      var line = cells.joined(separator: "  ")
      while line.hasSuffix(" ") { line.removeLast() }
      return line
    }
  }
}
