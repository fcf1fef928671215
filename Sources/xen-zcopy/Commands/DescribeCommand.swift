import ArgumentParser
import CZcopy
import Pixels
import ZcopyBackend

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

  private func lines(_ buffer: xen_zcopyd_description, _ names: DomainNames) -> [String] {
    let entry = BufferEntry(buffer)
    var rows = [
      ("id", entry.id.description), ("name", entry.name),
      ("kind", "\(entry.kind), by \(entry.mechanism)"),
      (
        "state",
        "\(entry.state) for \(Quantity.time(milliseconds: buffer.state_ms)), made "
          + "\(Quantity.time(milliseconds: buffer.age_ms)) ago"
      ),
      ("domain", names.describe(buffer.domain)),
      ("size", "\(buffer.size) bytes in \(buffer.pages) pages"),
      ("offset", buffer.offset == 0 ? "" : "\(buffer.offset)"),
      ("frame size", buffer.frame_size == 0 ? "" : "\(buffer.frame_size)"),
      ("picture", BufferFormatter.picture(buffer.picture).map { "\($0)" } ?? ""),
      ("frame", buffer.frame == 0 ? "" : "\(buffer.frame)"),
      ("directory", buffer.directory == 0 ? "" : "\(buffer.directory)"),
      ("dma-buf", "inode \(buffer.inode)"), ("made by", "user \(buffer.user)"),
      ("belongs to", entry.holder),
    ]
    if buffer.kind == XEN_ZCOPYD_KIND_MAPPED {
      rows.append(
        ("took", "directory \(buffer.directory_us) us, mapping \(buffer.mapping_us) us"))
    }
    rows.append(("holders", fixedText(buffer.text)))
    let width = rows.map(\.0.count).max() ?? 0
    return rows.filter { !$0.1.isEmpty }.map { title, text in
      title + String(repeating: " ", count: width - title.count + 2) + text
    }
  }

  private func fields(
    _ buffer: xen_zcopyd_description, _ names: DomainNames
  ) -> [String: JSONValue] {
    var fields = BufferEntry(buffer).fields(names)
    fields["offset"] = .number(Int(clamping: buffer.offset))
    fields["frame_size"] =
      buffer.frame_size == 0 ? .null : .number(Int(clamping: buffer.frame_size))
    fields["directory"] = buffer.directory == 0 ? .null : .number(Int(buffer.directory))
    fields["inode"] = .number(Int(clamping: buffer.inode))
    fields["state_ms"] = .number(Int(clamping: buffer.state_ms))
    fields["directory_ms"] = .real(Double(buffer.directory_us) / 1000)
    fields["mapping_ms"] = .real(Double(buffer.mapping_us) / 1000)
    fields["picture"] =
      BufferFormatter.picture(buffer.picture).map { picture in
        .object([
          "width": .number(picture.width), "height": .number(picture.height),
          "stride": .number(picture.stride), "format": .string(picture.format.name),
        ])
      } ?? .null
    fields["text"] = .string(fixedText(buffer.text))
    return fields
  }
}
