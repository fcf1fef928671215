import Pixels

/// The SMPTE colour bars (EG 1-1990), and a line that moves over them.
///
/// Colours and layout are those of the classic SMPTE test picture: seven bars
/// at 75 % on two thirds of the height; under them, on a twelfth, blue bars in reverse order
/// between black ones; and at the bottom -I, white, +Q, and black with the three steps of PLUGE.
struct ColourBars {
  private let geometry: PictureGeometry
  private let layout: PixelLayout
  private let frame: UInt32

  /// - Throws: `PictureError.unsupportedFormat` for a format that came after this code.
  init(_ geometry: PictureGeometry, frame: UInt32) throws(PictureError) {
    self.geometry = geometry
    self.layout = try PixelLayout(geometry.format)
    self.frame = frame
  }

  /// One colour up to an edge, in 84ths of the width: a seventh, a quarter of five sevenths and a
  /// third of a seventh are all whole numbers of those.
  private struct Bar {
    let end: Int
    let colour: Colour

    init(to end: Int, _ red: UInt8, _ green: UInt8, _ blue: UInt8) {
      self.end = end
      self.colour = Colour(red: red, green: green, blue: blue)
    }
  }

  private static let widthUnits = 84

  private static let top = [
    Bar(to: 12, 192, 192, 192), Bar(to: 24, 192, 192, 0), Bar(to: 36, 0, 192, 192),
    Bar(to: 48, 0, 192, 0), Bar(to: 60, 192, 0, 192), Bar(to: 72, 192, 0, 0),
    Bar(to: 84, 0, 0, 192),
  ]
  private static let middle = [
    Bar(to: 12, 0, 0, 192), Bar(to: 24, 19, 19, 19), Bar(to: 36, 192, 0, 192),
    Bar(to: 48, 19, 19, 19), Bar(to: 60, 0, 192, 192), Bar(to: 72, 19, 19, 19),
    Bar(to: 84, 192, 192, 192),
  ]
  private static let bottom = [
    Bar(to: 15, 0, 33, 76), Bar(to: 30, 255, 255, 255), Bar(to: 45, 50, 0, 106),
    Bar(to: 60, 19, 19, 19), Bar(to: 64, 9, 9, 9), Bar(to: 68, 19, 19, 19), Bar(to: 72, 29, 29, 29),
    Bar(to: 84, 19, 19, 19),
  ]

  /// The bars of a row. Rounded up, so that even one row alone shows colours.
  private func bars(ofRow row: Int) -> [Bar] {
    if row < (geometry.height * 2 + 2) / 3 { return Self.top }
    if row < (geometry.height * 3 + 3) / 4 { return Self.middle }
    return Self.bottom
  }

  /// Where the line is, in pixels from the left, and its colour; nil in frame 0.
  private var line: (start: Int, end: Int, colour: Colour)? {
    guard frame > 0 else { return nil }
    let width = geometry.width
    // About two seconds at 60 Hz from side to side, at any width.
    let step = max(1, width / 128)
    let start = Int(frame) % width * step % width
    // A line as wide as the picture cannot move, so there it blinks.
    let blinks = width == 1 && frame % 2 == 0
    return (start, min(width, start + step), blinks ? .black : .white)
  }

  /// Writes every byte of `bytes`, which starts `byteOffset` bytes behind the first pixel.
  func draw(into bytes: inout MutableRawSpan, from byteOffset: Int) {
    let line = line
    var done = 0
    while done < bytes.byteCount {
      let left = bytes.byteCount - done
      let (position, overflow) = byteOffset.addingReportingOverflow(done)
      let row = position / geometry.stride
      guard !overflow, row < geometry.height else {
        bytes.fill(from: done, count: left, with: 0)
        return
      }
      let start = position % geometry.stride
      if start >= geometry.rowBytes {
        let count = min(left, geometry.stride - start)
        bytes.fill(from: done, count: count, with: 0)
        done += count
        continue
      }

      // Bytes start..<end of the row lie from byte `done` of the piece on.
      let end = min(geometry.rowBytes, start + left)
      var barStart = 0
      for bar in bars(ofRow: row) {
        let barEnd = bar.end * geometry.width / Self.widthUnits
        paint(
          barStart..<barEnd, bar.colour, of: start..<end, at: done, in: &bytes)
        barStart = barEnd
      }
      if let line {
        paint(line.start..<line.end, line.colour, of: start..<end, at: done, in: &bytes)
      }
      done += end - start
    }
  }

  /// Paints a run of pixels of a row, as far as bytes `part` of that row contain it.
  private func paint(
    _ pixels: Range<Int>, _ colour: Colour, of part: Range<Int>, at offset: Int,
    in bytes: inout MutableRawSpan
  ) {
    let size = geometry.format.bytesPerPixel
    let run = (pixels.lowerBound * size..<pixels.upperBound * size).clamped(to: part)
    guard !run.isEmpty else { return }
    // Where the part cuts a pixel the run starts inside it, so the four bytes turn by as many.
    let turn = UInt32(run.lowerBound % size) * 8
    let pattern = layout.pattern(of: colour)
    bytes.fill(
      from: offset + run.lowerBound - part.lowerBound, count: run.count,
      with: turn == 0 ? pattern : pattern >> turn | pattern << (32 - turn))
  }
}
