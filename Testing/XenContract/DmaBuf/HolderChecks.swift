import CZcopy
import DmaBuf
import Support
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The holders of a dma-buf, as the kernel reports them.
enum HolderChecks {
  static let all: [DmaBufCheck] = [
    DmaBufCheck("the holders of a dma-buf are the processes with a descriptor or a mapping of it") {
      bench in
      let buffer = try makeDmaBuf(bench)
      let inode = buffer.inode
      try expect("the holders", find(inode), is: [own(descriptors: 1, mappings: 0)])
      do {
        let copy = try bench.dmaBufs.adopt(try OwnedDescriptor(duplicating: buffer.fileDescriptor))
        let mapping = try buffer.map(writable: false)
        try expect("the holders", find(inode), is: [own(descriptors: 2, mappings: 1)])
        _ = consume copy
        try expect("the holders", find(inode), is: [own(descriptors: 1, mappings: 1)])
        _ = consume mapping
      }
      let mapping = try buffer.map(writable: false)
      _ = consume buffer
      try expect("the holders", find(inode), is: [own(descriptors: 0, mappings: 1)])
      _ = consume mapping
      try expect("the holders", find(inode), is: [])
    },

    DmaBufCheck("the holders of a dma-buf of a heap or of a device are reported too") { bench in
      guard bench.isKernel else { throw Skip(reason: "only a kernel can be asked that") }
      if bench.dmaBufs.heaps.contains("system") {
        let buffer = try bench.dmaBufs.allocate(byteCount: pageSize, fromHeap: "system")
        let mapping = try buffer.map(writable: false)
        try expect("the holders", find(buffer.inode), is: [own(descriptors: 1, mappings: 1)])
        _ = consume mapping
      }
      let buffer = try bench.buffer(of: try bench.makeWorker())
      try expect("the holders", find(buffer.inode), is: [own(descriptors: 1, mappings: 0)])
    },

    DmaBufCheck("another process with a dma-buf is a holder until it ends") { bench in
      let buffer = try makeDmaBuf(bench)
      let inode = buffer.inode
      let child = try startSleep(with: buffer.fileDescriptor)
      // The new program gets its name only when it runs.
      let theirs = DmaBufHolder.process(
        id: Int(child), command: "sleep", descriptors: 1, mappings: 0)
      let ours = own(descriptors: 1, mappings: 0)
      let deadline = BootClock.now + .milliseconds(timeout)
      while !find(inode).contains(theirs), BootClock.now < deadline { usleep(1000) }
      let found = Set(find(inode))
      kill(child, SIGKILL)
      czcopy_reap(child)
      try expect("the holders", found, is: [ours, theirs])
      try expect("the holders after its end", find(inode), is: [ours])
    },

    DmaBufCheck("a device that imported a dma-buf is a holder until the device is closed") {
      bench in
      let buffer = try makeDmaBuf(bench)
      guard hasBufferInformation else { throw Skip(reason: "debugfs lists no dma-bufs") }
      do {
        let worker = try bench.makeWorker()
        try worker.attach(buffer.fileDescriptor)
        let devices = find(buffer.inode).filter { if case .device = $0 { true } else { false } }
        try expect("the count of devices", devices.count, is: 1)
      }
      try expect("the holders", find(buffer.inode), is: [own(descriptors: 1, mappings: 0)])
    },
  ]

  private static var hasBufferInformation: Bool {
    // SAFETY: the path is a C string for the length of the call.
    unsafe Glibc.access("/sys/kernel/debug/dma_buf/bufinfo", R_OK) == 0
  }

  private static func makeDmaBuf(_ bench: any DmaBufBench) throws -> DmaBuf {
    guard bench.isKernel else { throw Skip(reason: "only a kernel can be asked that") }
    return try bench.makeDmaBuf(pages: 1)
  }

  private static func find(_ inode: UInt64) -> [DmaBufHolder] { DmaBufHolder.find(inode) }

  /// This process as a holder.
  private static func own(descriptors: Int, mappings: Int) -> DmaBufHolder {
    let command = Files.target(of: "/proc/self/exe")?.split(separator: "/").last ?? ""
    return .process(
      id: Int(getpid()), command: String(command.utf8.prefix(15)) ?? "", descriptors: descriptors,
      mappings: mappings)
  }

  /// Starts a program that holds the descriptor, and waits.
  private static func startSleep(with descriptor: FileDescriptor) throws -> Int32 {
    // SAFETY: the strings and the array of them live for the call.
    let child = unsafe "sleep".withCString { name in
      unsafe "60".withCString { seconds in
        let arguments = unsafe [
          UnsafeMutablePointer(mutating: name), UnsafeMutablePointer(mutating: seconds), nil,
        ]
        return unsafe czcopy_spawn(arguments, descriptor.rawValue, "CONTRACT", "1")
      }
    }
    guard child > 0 else { throw Errno(rawValue: -child) }
    return child
  }
}
