import DmaBuf
import SystemPackage
import Testing

@Suite("What a dma-buf error says")
struct DmaBufErrorTests {
  private static let subjects: [DmaBufError.Subject?] = [
    nil, .newMemoryFile(name: "a\nb", byteCount: 4096), .memoryFile(7), .dmaBuf(7), .syncFile(7),
    .syncFiles([7, 8]), .fence(syncFile: 7, dmaBuf: 8),
    .pieces(count: 1, byteCount: 65 << 20, limit: 64 << 20),
    .pieces(count: 3, byteCount: 4096, limit: nil), .heap("a\nb", byteCount: 0, among: []),
    .heap("gpu", byteCount: 4096, among: ["reserved", "system"]),
  ]

  @Test("is one line with the call and the errno", arguments: DmaBufError.Call.allCases)
  func oneLine(call: DmaBufError.Call) {
    for number in Int32(1)...133 {
      for subject in Self.subjects {
        let errno = Errno(rawValue: number)
        let text = "\(DmaBufError(call, errno, subject: subject))"
        #expect(text.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 }, "\(text)")
        #expect(text.hasPrefix("cannot "), "\(text)")
        #expect(text.contains("from \(call.rawValue))"), "\(text)")
      }
    }
  }

  @Test(
    "is what failed, why, and what to do",
    arguments: [
      (
        DmaBufError(
          .makeDmaBuf, .noSuchFileOrDirectory,
          subject: .pieces(count: 1, byteCount: 4096, limit: nil)),
        "cannot make a dma-buf of 1 piece of memory files, 4096 bytes in all: No such file or directory "
          + "(ENOENT from UDMABUF_CREATE); there is no /dev/udmabuf: load the module udmabuf (modprobe udmabuf)"
      ),
      (
        DmaBufError(
          .makeDmaBuf, .invalidArgument,
          subject: .pieces(count: 2, byteCount: 65 << 20, limit: 64 << 20)),
        "cannot make a dma-buf of 2 pieces of memory files, 68157440 bytes in all: Invalid argument "
          + "(EINVAL from UDMABUF_CREATE); a dma-buf of memory files may have 64 MiB here: write more into "
          + "/sys/module/udmabuf/parameters/size_limit_mb, or udmabuf.size_limit_mb= on the kernel's command line"
      ),
      (
        DmaBufError(
          .allocate, .noSuchFileOrDirectory,
          subject: .heap("gpu", byteCount: 4096, among: ["reserved", "system"])),
        "cannot allocate 4096 bytes from the heap \"gpu\": No such file or directory "
          + "(ENOENT from DMA_HEAP_IOCTL_ALLOC); the heaps here are reserved, system"
      ),
      (
        DmaBufError(
          .allocate, .noSuchFileOrDirectory, subject: .heap("system", byteCount: 1, among: [])),
        "cannot allocate 1 byte from the heap \"system\": No such file or directory "
          + "(ENOENT from DMA_HEAP_IOCTL_ALLOC); this kernel has no heaps (CONFIG_DMABUF_HEAPS)"
      ),
      (
        DmaBufError(.exportFences, .inappropriateIOCTLForDevice, subject: .dmaBuf(7)),
        "cannot take the fences out of the dma-buf behind file descriptor 7: Inappropriate ioctl for device "
          + "(ENOTTY from DMA_BUF_IOCTL_EXPORT_SYNC_FILE); it is no dma-buf, or the kernel is older than Linux 6.0"
      ),
      (
        DmaBufError(.importFence, .invalidArgument, subject: .fence(syncFile: 7, dmaBuf: 8)),
        "cannot add the sync file behind file descriptor 7 to the dma-buf behind file descriptor 8: Invalid argument "
          + "(EINVAL from DMA_BUF_IOCTL_IMPORT_SYNC_FILE); only a sync file holds fences"
      ),
      (
        DmaBufError(.map, .invalidArgument, subject: .dmaBuf(7)),
        "cannot map the dma-buf behind file descriptor 7: Invalid argument (EINVAL from mmap); its exporter gives "
          + "the processor no access, as gntdev does not (map the grant references then), or it is empty or no dma-buf"
      ),
    ])
  func text(error: DmaBufError, text: String) {
    #expect("\(error)" == text)
  }

  @Test(
    "says what to do about each common refusal",
    arguments: [
      (.makeMemoryFile, .tooManyOpenFiles, "ulimit -n"),
      (.allocate, .tooManyOpenFiles, "ulimit -n"),
      (.makeDmaBuf, .permissionDenied, "/dev/udmabuf"),
      (.makeDmaBuf, .invalidArgument, "list_limit"),
      (.makeDmaBuf, Errno(rawValue: 77), "memfd_create"), (.makeDmaBuf, .noMemory, "memory"),
      (.allocate, .permissionDenied, "/dev/dma_heap"), (.allocate, .noMemory, "free"),
      (.allocate, .invalidArgument, "1 byte or more"),
      (.setName, .inappropriateIOCTLForDevice, "no dma-buf"),
      (.synchronize, .inappropriateIOCTLForDevice, "no dma-buf"),
      (.map, .permissionDenied, "opened"), (.map, .noMemory, "memory"),
      (.mergeFences, .noSuchFileOrDirectory, "sync file"),
      (.fenceInformation, .inappropriateIOCTLForDevice, "sync file"),
      (.identify, .badFileDescriptor, "not open"), (.poll, .badFileDescriptor, "not open"),
    ] as [(DmaBufError.Call, Errno, String)])
  func advice(call: DmaBufError.Call, errno: Errno, words: String) {
    let text = "\(DmaBufError(call, errno))"
    #expect(text.drop { $0 != ";" }.contains(words), "\(text)")
  }
}
