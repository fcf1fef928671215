import ArgumentParser
import Pixels
import ZcopyBackend
import ZcopyWire

/// `xen-zcopy describe`.
struct DescribeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "describe",
    abstract: "Show the details of a buffer of xen-zcopyd, and its holders.")

  @Argument(help: "The buffer: its identifier, or the first digits of it, at least 4.")
  var id: BufferName

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("describe a buffer") { daemon in
      let id = try id.resolve(daemon)
      let buffer = try daemon.describe(id)
      let names = common.domainNames
      if common.json {
        common.output.report("buffer", nil, fields(buffer, names))
      } else {
        common.output.print(lines(buffer, names))
      }
    }
  }

  private func lines(_ buffer: DescriptionMessage, _ names: DomainNames) -> [String] {
    var rows = [
      ("id", buffer.id.description), ("name", buffer.name.printed),
      ("kind", "\(buffer.kind), by \(buffer.mechanism)"),
      (
        "state",
        "\(buffer.stateName) for \(Quantity.time(milliseconds: buffer.stateMilliseconds)), made "
          + "\(Quantity.time(milliseconds: buffer.ageMilliseconds)) ago"
      ),
      ("domain", names.describe(buffer.domain)),
      ("size", "\(buffer.byteCount) bytes in \(buffer.pages) pages"),
      ("offset", buffer.offset == 0 ? "" : "\(buffer.offset)"),
      ("frame size", buffer.frameByteCount == 0 ? "" : "\(buffer.frameByteCount)"),
      ("picture", buffer.geometry.map { "\($0)" } ?? ""),
      ("frame", buffer.frame == 0 ? "" : "\(buffer.frame)"),
      ("directory", buffer.directory == 0 ? "" : "\(buffer.directory)"),
      ("dma-buf", "inode \(buffer.inode)"), ("made by", "user \(buffer.user)"),
      ("belongs to", buffer.holder),
    ]
    if buffer.isMapped {
      rows.append(
        (
          "took",
          "directory \(buffer.directoryMicroseconds) us, mapping \(buffer.mappingMicroseconds) us"
        ))
    }
    rows.append(("holders", buffer.text.printed))
    let width = rows.map(\.0.count).max() ?? 0
    return rows.filter { !$0.1.isEmpty }.map { title, text in
      title + String(repeating: " ", count: width - title.count + 2) + text
    }
  }

  private func fields(
    _ buffer: DescriptionMessage, _ names: DomainNames
  ) -> [String: JSONValue] {
    var fields = buffer.fields(names)
    fields["offset"] = .number(Int(clamping: buffer.offset))
    fields["frame_size"] =
      buffer.frameByteCount == 0 ? .null : .number(Int(clamping: buffer.frameByteCount))
    fields["directory"] = buffer.directory == 0 ? .null : .number(Int(buffer.directory))
    fields["inode"] = .number(Int(clamping: buffer.inode))
    fields["state_ms"] = .number(Int(clamping: buffer.stateMilliseconds))
    fields["directory_ms"] = .real(Double(buffer.directoryMicroseconds) / 1000)
    fields["mapping_ms"] = .real(Double(buffer.mappingMicroseconds) / 1000)
    fields["picture"] =
      buffer.geometry.map { picture in
        .object([
          "width": .number(picture.width), "height": .number(picture.height),
          "stride": .number(picture.stride), "format": .string(picture.format.name),
        ])
      } ?? .null
    fields["text"] = .string(buffer.text.printed)
    return fields
  }
}
