/// A holder of a dma-buf: a process with its descriptors and mappings, or a device that has
/// imported it.
///
/// For messages and for debugging. The memory is not freed as long as it has a holder.
public enum DmaBufHolder: Hashable, Sendable {
  /// A process, which has so many descriptors and so many mappings of it.
  case process(id: Int, command: String, descriptors: Int, mappings: Int)
  /// A device, by the kernel's name for it.
  case device(String)

  /// Finds the current holders of a dma-buf.
  ///
  /// Reads `/proc` of each process, which takes milliseconds. Holders that this process may not see
  /// are left out: without root, processes of other users; without debugfs, devices. A descriptor
  /// in transit through a socket belongs to no process.
  ///
  /// - Parameters:
  ///   - inode: the dma-buf's ``DmaBuf/inode``.
  ///   - root: the directory below which `proc` and `sys` are.
  /// - Returns: processes by their numbers, then devices as the kernel lists them.
  public static func find(_ inode: UInt64, root: String = "") -> [DmaBufHolder] {
    all(root: root)[inode] ?? []
  }

  /// Finds the current holders of all dma-bufs. This takes as long as for one.
  ///
  /// - Parameter root: the directory below which `proc` and `sys` are.
  /// - Returns: by ``DmaBuf/inode`` what ``find(_:root:)`` finds.
  public static func all(root: String = "") -> [UInt64: [DmaBufHolder]] {
    var holders: [UInt64: [DmaBufHolder]] = [:]
    for process in Files.names(in: "\(root)/proc").compactMap({ Int($0) }).sorted() {
      add(process, "\(root)/proc/\(process)", to: &holders)
    }
    addDevices(Files.text(of: "\(root)/sys/kernel/debug/dma_buf/bufinfo") ?? "", to: &holders)
    return holders
  }

  /// How the name of each dma-buf's file begins.
  private static let fileName = "/dmabuf:"

  private static func add(
    _ process: Int, _ path: String, to holders: inout [UInt64: [DmaBufHolder]]
  ) {
    var counts: [UInt64: (descriptors: Int, mappings: Int)] = [:]
    for descriptor in Files.names(in: "\(path)/fd") {
      // Reading the symbolic link is cheap, and few files are dma-bufs.
      guard Files.target(of: "\(path)/fd/\(descriptor)")?.hasPrefix(fileName) == true,
        let inode = inode(Files.text(of: "\(path)/fdinfo/\(descriptor)") ?? "")
      else { continue }
      counts[inode, default: (0, 0)].descriptors += 1
    }
    for inode in mappings(in: Files.text(of: "\(path)/maps") ?? "") {
      counts[inode, default: (0, 0)].mappings += 1
    }
    guard !counts.isEmpty else { return }
    let command = Files.text(of: "\(path)/comm").map { String($0.prefix { $0 != "\n" }) } ?? ""
    for (inode, count) in counts {
      holders[inode, default: []].append(
        .process(
          id: process, command: command, descriptors: count.descriptors, mappings: count.mappings))
    }
  }

  /// The inode number in the text of a `fdinfo`. The first match counts: the dma-buf's own name
  /// follows later.
  private static func inode(_ text: String) -> UInt64? {
    let line = text.utf8.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: "ino:".utf8) }
    return line.flatMap { UInt64(Substring($0.dropFirst(4).drop(while: isBlank))) }
  }

  /// The dma-buf of each line of a `maps` that is of one: address, rights, offset, device, inode, name.
  private static func mappings(in text: String) -> [UInt64] {
    text.utf8.split(separator: UInt8(ascii: "\n")).compactMap { line in
      let fields = line.split(maxSplits: 5, whereSeparator: isBlank)
      guard fields.count == 6, fields[5].drop(while: isBlank).starts(with: fileName.utf8) else {
        return nil
      }
      return UInt64(Substring(fields[4]))
    }
  }

  /// The devices that debugfs's `bufinfo` lists for each dma-buf.
  ///
  /// A buffer's line begins with its size and has the inode sixth, between tabs; the devices
  /// follow, one a line, between `Attached Devices:` and `Total N devices attached`.
  private static func addDevices(_ text: String, to holders: inout [UInt64: [DmaBufHolder]]) {
    var inode: UInt64?
    var isList = false
    for bytes in text.utf8.split(separator: UInt8(ascii: "\n")) {
      let line = Substring(bytes)
      if !line.hasPrefix("\t") {
        let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
        inode = fields.count >= 6 ? UInt64(fields[5]) : nil
        isList = false
      } else if line.hasPrefix("\tAttached Devices:") {
        isList = true
      } else if isList, let inode {
        holders[inode, default: []].append(.device(String(line.dropFirst())))
      }
    }
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
