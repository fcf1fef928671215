/// Who has a dma-buf: a process by its descriptors and mappings, or a device that has imported it.
///
/// For messages and for debugging: as long as anybody has it, its memory stays what it is.
public enum DmaBufHolder: Hashable, Sendable {
  /// A process, which has so many descriptors and so many mappings of it.
  case process(id: Int, command: String, descriptors: Int, mappings: Int)
  /// A device, by the kernel's name for it.
  case device(String)

  /// Finds out who has a dma-buf now.
  ///
  /// Reads `/proc` of each process, which takes milliseconds. What this process may not see is left out: without root,
  /// processes of other users; without debugfs, devices. A descriptor on its way through a socket belongs to nobody.
  ///
  /// - Parameters:
  ///   - identity: the dma-buf's ``DmaBuf/identity``.
  ///   - root: the directory below which `proc` and `sys` are.
  /// - Returns: processes by their numbers, then devices as the kernel lists them.
  public static func find(_ identity: UInt64, root: String = "") -> [DmaBufHolder] {
    let processes = Files.names(in: "\(root)/proc").compactMap { Int($0) }.sorted()
    return processes.compactMap { process($0, identity, "\(root)/proc/\($0)") }
      + devices(identity, Files.text(of: "\(root)/sys/kernel/debug/dma_buf/bufinfo") ?? "")
  }

  /// How the name of each dma-buf's file begins.
  private static let fileName = "/dmabuf:"

  private static func process(_ id: Int, _ identity: UInt64, _ path: String) -> DmaBufHolder? {
    let descriptors = Files.names(in: "\(path)/fd").count { descriptor in
      // The link is cheap to read, and few files are dma-bufs.
      Files.target(of: "\(path)/fd/\(descriptor)")?.hasPrefix(fileName) == true
        && inode(Files.text(of: "\(path)/fdinfo/\(descriptor)") ?? "") == identity
    }
    let mappings = mappings(identity, Files.text(of: "\(path)/maps") ?? "")
    guard descriptors > 0 || mappings > 0 else { return nil }
    let command = Files.text(of: "\(path)/comm").map { String($0.prefix { $0 != "\n" }) }
    return .process(
      id: id, command: command ?? "", descriptors: descriptors, mappings: mappings)
  }

  /// The inode number in the text of a `fdinfo`. What the dma-buf's own name says comes later.
  private static func inode(_ text: String) -> UInt64? {
    let line = text.utf8.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: "ino:".utf8) }
    return line.flatMap { UInt64(Substring($0.dropFirst(4).drop(while: isBlank))) }
  }

  /// How many lines of a `maps` are of that dma-buf: address, rights, offset, device, inode, name.
  private static func mappings(_ identity: UInt64, _ text: String) -> Int {
    let inode = "\(identity)".utf8
    return text.utf8.split(separator: UInt8(ascii: "\n")).count { line in
      let fields = line.split(maxSplits: 5, whereSeparator: isBlank)
      return fields.count == 6 && fields[4].elementsEqual(inode)
        && fields[5].drop(while: isBlank).starts(with: fileName.utf8)
    }
  }

  /// The devices that debugfs's `bufinfo` lists for that dma-buf.
  ///
  /// A buffer's line begins with its size and has the inode sixth, between tabs; the devices follow, one a line, between
  /// `Attached Devices:` and `Total N devices attached`.
  private static func devices(_ identity: UInt64, _ text: String) -> [DmaBufHolder] {
    var isOurs = false
    var isList = false
    var devices: [DmaBufHolder] = []
    for bytes in text.utf8.split(separator: UInt8(ascii: "\n")) {
      let line = Substring(bytes)
      if !line.hasPrefix("\t") {
        let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
        isOurs = fields.count >= 6 && UInt64(fields[5]) == identity
        isList = false
      } else if line.hasPrefix("\tAttached Devices:") {
        isList = isOurs
      } else if isList {
        devices.append(.device(String(line.dropFirst())))
      }
    }
    return devices
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
  }
}

extension DmaBufHolder: CustomStringConvertible {
  /// For a message: `process 812 "weston" (2 descriptors, 1 mapping)`, or `device 0000:00:02.0`.
  public var description: String {
    switch self {
    case .process(let id, let command, let descriptors, let mappings):
      "process \(id) \(command.debugDescription) (\(Self.count(descriptors, "descriptor")), "
        + "\(Self.count(mappings, "mapping")))"
    case .device(let name): "device \(name)"
    }
  }

  private static func count(_ number: Int, _ thing: String) -> String {
    number == 1 ? "1 \(thing)" : "\(number) \(thing)s"
  }
}
