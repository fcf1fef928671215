public import SystemPackage

/// A call about memory for devices that failed: which, on what, and why.
public struct DmaBufError: Error, Hashable, Sendable {
  /// The call that failed, by the name under which it is documented.
  public let call: Call
  /// What the call left in `errno`.
  public let errno: Errno
  /// What was concerned.
  public let subject: Subject?

  /// An error with its circumstances.
  public init(_ call: Call, _ errno: Errno, subject: Subject? = nil) {
    self.call = call
    self.errno = errno
    self.subject = subject
  }

  /// The calls of the kernel that can fail.
  public enum Call: String, Sendable, CaseIterable {
    case makeMemoryFile = "memfd_create"
    case makeDmaBuf = "UDMABUF_CREATE"
    case allocate = "DMA_HEAP_IOCTL_ALLOC"
    case identify = "fstat"
    case setName = "DMA_BUF_SET_NAME"
    case map = "mmap"
    case synchronize = "DMA_BUF_IOCTL_SYNC"
    case poll = "poll"
    case exportFences = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE"
    case importFence = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE"
    case mergeFences = "SYNC_IOC_MERGE"
    case fenceInformation = "SYNC_IOC_FILE_INFO"
  }

  /// What a call was about: descriptors by their numbers, sizes in bytes.
  public enum Subject: Hashable, Sendable {
    case newMemoryFile(name: String, byteCount: Int)
    case memoryFile(Int32)
    case dmaBuf(Int32)
    case syncFile(Int32)
    case syncFiles([Int32])
    /// A sync file that should have become a fence of a dma-buf.
    case fence(syncFile: Int32, dmaBuf: Int32)
    /// Pieces of memory files, and the maximum size in bytes of a dma-buf made from memory files;
    /// nil if the kernel does not report it.
    case pieces(count: Int, byteCount: Int, limit: Int?)
    /// A heap, what was wanted of it, and which heaps there are.
    case heap(String, byteCount: Int, among: [String])
  }
}

extension DmaBufError.Subject {
  /// Pieces. Only what the error reports is kept.
  static func pieces(_ pieces: [MemoryFilePiece], limit: Int?) -> Self {
    // A sum that no memory has is as good as any other, and does not trap.
    .pieces(count: pieces.count, byteCount: pieces.reduce(0) { $0 &+ $1.byteCount }, limit: limit)
  }
}

extension DmaBufError: CustomStringConvertible {
  /// One line: what failed, on what, why, and what to do where that is known.
  public var description: String {
    var line = "cannot \(call.action)"
    if let subject { line += " \(subject)" }
    line += ": \(errno) (\(errno.symbol) from \(call.rawValue))"
    if let advice { line += "; \(advice)" }
    return line
  }

  /// What usually helps.
  private var advice: String? {
    switch call {
    case .makeDmaBuf: udmabufAdvice ?? generalAdvice
    case .allocate: heapAdvice ?? generalAdvice
    case .map: mapAdvice ?? generalAdvice
    default: kindAdvice ?? generalAdvice
    }
  }

  private var generalAdvice: String? {
    switch errno {
    case .tooManyOpenFiles: "raise this process's limit of open files (ulimit -n), or close some"
    case .tooManyOpenFilesInSystem: "raise /proc/sys/fs/file-max, or close some files"
    case .noMemory: "not so much memory is free, or this process may not have it"
    case .badFileDescriptor: "it is not open"
    default: nil
    }
  }

  /// Advice for a call on a file of the wrong type or with a wrong size.
  private var kindAdvice: String? {
    switch (call, errno) {
    case (.makeMemoryFile, .invalidArgument):
      "a name has 249 bytes at most, and a size is 0 or more"
    case (.makeMemoryFile, .fileTooLarge): "no file is as large"
    case (.setName, .inappropriateIOCTLForDevice), (.synchronize, .inappropriateIOCTLForDevice):
      "it is no dma-buf"
    case (.exportFences, .inappropriateIOCTLForDevice),
      (.importFence, .inappropriateIOCTLForDevice):
      "it is no dma-buf, or the kernel is older than Linux 6.0"
    case (.importFence, .invalidArgument), (.mergeFences, .noSuchFileOrDirectory),
      (.mergeFences, .inappropriateIOCTLForDevice),
      (.fenceInformation, .inappropriateIOCTLForDevice):
      "only a sync file holds fences"
    case (.poll, .invalidArgument): "they are more than this process may have open (ulimit -n)"
    default: nil
    }
  }

  private var udmabufAdvice: String? {
    switch errno {
    case .noSuchFileOrDirectory, .operationNotSupportedByDevice, .noSuchAddressOrDevice:
      "there is no /dev/udmabuf: load the module udmabuf (modprobe udmabuf)"
    case .permissionDenied, .notPermitted:
      "run it as root or give this user access to /dev/udmabuf"
    case .inappropriateIOCTLForDevice: "/dev/udmabuf is not what Linux has there"
    case .invalidArgument:
      if case .pieces(_, let byteCount, let limit?) = subject, byteCount > limit {
        "a dma-buf of memory files may have \(limit >> 20) MiB here: write more into "
          + "/sys/module/udmabuf/parameters/size_limit_mb, or udmabuf.size_limit_mb= on the kernel's command line"
      } else {
        "the pieces must be whole pages inside of memory files that are sealed against shrinking and not against "
          + "writing, and no more of them than /sys/module/udmabuf/parameters/list_limit"
      }
    case .badFileDescriptor, Self.noMemoryFile: "each piece must be of a memory file (memfd_create)"
    default: nil
    }
  }

  /// EBADFD, which udmabuf has for a descriptor of anything else.
  private static let noMemoryFile = Errno(rawValue: 77)

  private var heapAdvice: String? {
    switch errno {
    case .noSuchFileOrDirectory:
      if case .heap(_, _, let heaps) = subject, !heaps.isEmpty {
        "the heaps here are \(heaps.joined(separator: ", "))"
      } else {
        "this kernel has no heaps (CONFIG_DMABUF_HEAPS)"
      }
    case .permissionDenied, .notPermitted:
      "run it as root or give this user access to /dev/dma_heap"
    case .inappropriateIOCTLForDevice: "that is no heap of this kernel's"
    case .invalidArgument: "a size is 1 byte or more, and no more than the heap can have"
    case .noMemory: "the heap has not so much free"
    default: nil
    }
  }

  private var mapAdvice: String? {
    switch (errno, subject) {
    case (.invalidArgument, .memoryFile): "a file of 0 bytes cannot be mapped"
    case (.invalidArgument, _):
      "its exporter gives the processor no access, as gntdev does not (map the grant references then), or "
        + "it is empty or no dma-buf"
    case (.permissionDenied, _): "its descriptor was not opened for that"
    case (.notPermitted, _): "it is sealed against writing"
    case (.operationNotSupportedByDevice, _): "it is a file that cannot be mapped"
    default: nil
    }
  }
}

extension DmaBufError.Subject: CustomStringConvertible {
  /// The kind of thing and its number, name or size.
  public var description: String {
    switch self {
    case .newMemoryFile(let name, let byteCount):
      "\(name.debugDescription) of \(Self.bytes(byteCount))"
    case .memoryFile(let number): "the memory file behind file descriptor \(number)"
    case .dmaBuf(let number): "the dma-buf behind file descriptor \(number)"
    case .syncFile(let number): "the sync file behind file descriptor \(number)"
    case .syncFiles(let numbers):
      "the sync files behind file descriptors \(numbers.map(String.init).joined(separator: ", "))"
    case .fence(let syncFile, let dmaBuf):
      "the sync file behind file descriptor \(syncFile) to the dma-buf behind file descriptor \(dmaBuf)"
    case .pieces(let count, let byteCount, _):
      "\(count) \(count == 1 ? "piece" : "pieces") of memory files, \(Self.bytes(byteCount)) in all"
    case .heap(let name, let byteCount, _):
      "\(Self.bytes(byteCount)) from the heap \(name.debugDescription)"
    }
  }

  private static func bytes(_ count: Int) -> String { count == 1 ? "1 byte" : "\(count) bytes" }
}

extension DmaBufError.Call {
  /// The call in words that follow "cannot".
  fileprivate var action: String {
    switch self {
    case .makeMemoryFile: "make a memory file"
    case .makeDmaBuf: "make a dma-buf of"
    case .allocate: "allocate"
    case .identify: "inspect"
    case .setName: "name"
    case .map: "map"
    case .synchronize: "begin or end access to"
    case .poll: "wait for"
    case .exportFences: "take the fences out of"
    case .importFence: "add"
    case .mergeFences: "merge"
    case .fenceInformation: "ask about"
    }
  }
}
