import Glibc
import SystemPackage
import ZcopyTestKit

extension TemporaryDirectory {
  /// Makes the files of a process in /proc.
  ///
  /// - Parameters:
  ///   - id: its number.
  ///   - command: its name.
  ///   - descriptors: the target of each descriptor's link, and the contents of its fdinfo.
  ///   - maps: its mappings.
  func process(
    _ id: Int, _ command: String, _ descriptors: [(target: String, information: String)] = [],
    maps: String = ""
  ) throws {
    try write("\(command)\n", to: "/proc/\(id)/comm")
    try write(maps, to: "/proc/\(id)/maps")
    try makeParents(of: "/proc/\(id)/fd/0")
    for (number, descriptor) in descriptors.enumerated() {
      // SAFETY: the strings live for the call.
      guard unsafe symlink(descriptor.target, file("/proc/\(id)/fd/\(number)")) == 0 else {
        throw Errno(rawValue: errno)
      }
      try write(descriptor.information, to: "/proc/\(id)/fdinfo/\(number)")
    }
  }

  /// Makes the file in which debugfs lists all dma-bufs.
  func bufferInformation(_ text: String) throws {
    try write(text, to: "/sys/kernel/debug/dma_buf/bufinfo")
  }
}
