public import DmaBuf
import CZcopy
public import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

extension SimulatedProcess: DmaBufPlatform {
  public func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32 {
    try perform(.dmaBufs(.makeMemoryFile)) { (state) throws(Errno) in
      try state.makeMemoryFile(name, byteCount: byteCount, in: domain)
    }
  }

  public func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32 {
    try perform(.dmaBufs(.makeDmaBuf)) { (state) throws(Errno) in
      try state.makeDmaBuf(of: pieces, in: domain)
    }
  }

  public func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32 {
    try perform(.dmaBufs(.allocate)) { (state) throws(Errno) in
      try state.allocate(byteCount: byteCount, fromHeap: name, in: domain)
    }
  }

  public func heapNames() -> [String] { limits.heaps.sorted() }

  public func probeUdmabuf() -> Errno? {
    do throws(Errno) {
      _ = try limits.openUdmabuf()
      return nil
    } catch {
      return error
    }
  }

  public func udmabufLimit() -> Int? { limits.udmabuf?.byteCount }

  public func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64) {
    let file = try perform(.dmaBufs(.identify)) { (_) throws(Errno) in
      try FileIdentity.read(descriptor)
    }
    return (file.identity.inode, UInt64(file.byteCount))
  }

  public func setName(_ name: String, of dmaBuf: Int32) throws(Errno) {
    try perform(.dmaBufs(.setName)) { (state) throws(Errno) in
      guard let position = try state.position(ofDmaBuf: dmaBuf, in: domain) else {
        throw .inappropriateIOCTLForDevice
      }
      guard name.utf8.count <= DmaBuf.longestName else { throw .invalidArgument }
      state.dmaBufs[position].name = name
    }
  }

  public func map(
    _ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UnsafeMutableRawPointer {
    let (domain, id) = (domain, id)
    let address = try perform(.dmaBufs(.map)) { (state) throws(Errno) in
      try state.map(
        file: descriptor, from: offset, byteCount: byteCount, writable: writable, process: id,
        of: domain)
    }
    // SAFETY: the address is a mapping that was just made.
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
      throw .badAddress
    }
    return unsafe pointer
  }

  public func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {
    let address = UInt(bitPattern: address)
    // The memory is unmapped, even for a killed process.
    _ = machine.change { $0.localMappings.removeValue(forKey: address) != nil }
    PageMapping.unmap(address, byteCount: byteCount)
  }

  public func synchronize(
    _ dmaBuf: Int32, _ access: BufferAccess, ends: Bool
  ) throws(Errno) {
    let domain = domain
    let file = try perform(.dmaBufs(.synchronize)) { (state) throws(Errno) -> Int32? in
      guard let position = try state.position(ofDmaBuf: dmaBuf, in: domain) else {
        throw .inappropriateIOCTLForDevice
      }
      let fences = state.fences(ofDmaBuf: position, before: access)
      return ends || fences.isEmpty ? nil : try state.makeSyncFile(nil, fences, in: domain)
    }
    guard let file else { return }
    defer { close(file) }
    var entries = [pollfd(fd: file, events: Int16(POLLIN), revents: 0)]
    try wait(&entries, milliseconds: -1)
  }

  public func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32 {
    try perform(.dmaBufs(.exportFences)) { (state) throws(Errno) in
      try state.exportSyncFile(of: dmaBuf, for: access, in: domain)
    }
  }

  public func importSyncFile(
    _ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess
  ) throws(Errno) {
    try perform(.dmaBufs(.importFence)) { (state) throws(Errno) in
      try state.importSyncFile(syncFile, into: dmaBuf, as: access, in: domain)
    }
  }

  public func mergeSyncFiles(
    _ first: Int32, _ second: Int32, name: String
  ) throws(Errno) -> Int32 {
    try perform(.dmaBufs(.mergeFences)) { (state) throws(Errno) in
      try state.mergeSyncFiles(first, second, name: name, in: domain)
    }
  }

  public func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation {
    try perform(.dmaBufs(.fenceInformation)) { (state) throws(Errno) in
      try state.information(ofSyncFile: syncFile)
    }
  }

  public func poll(
    _ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32
  ) throws(Errno) -> [Int16] {
    guard try !begin(.dmaBufs(.poll)).isEarly else {
      return Array(repeating: 0, count: descriptors.count)
    }
    // For a dma-buf, poll a sync file for each of its events.
    var entries: [pollfd] = []
    var meanings: [(index: Int, event: Int16?)] = []
    defer {
      for (entry, meaning) in zip(entries, meanings) where meaning.event != nil { close(entry.fd) }
    }
    for (index, polled) in descriptors.enumerated() {
      let files = try machine.perform { (state) throws(Errno) in
        try state.pollFiles(polled.descriptor, events: polled.events, in: domain)
      }
      if let files {
        entries += files.map { pollfd(fd: $0.file, events: Int16(POLLIN), revents: 0) }
        meanings += files.map { (index, $0.event) }
      } else {
        entries.append(pollfd(fd: polled.descriptor, events: polled.events, revents: 0))
        meanings.append((index, nil))
      }
    }
    try wait(&entries, milliseconds: milliseconds)
    var answers = [Int16](repeating: 0, count: descriptors.count)
    for (entry, meaning) in zip(entries, meanings) {
      let event = meaning.event.map { entry.revents & Int16(POLLIN) != 0 ? $0 : 0 }
      answers[meaning.index] |= event ?? entry.revents
    }
    return answers
  }

  private func wait(_ entries: inout [pollfd], milliseconds: Int32) throws(Errno) {
    let count = UInt32(entries.count)
    // SAFETY: that many entries are read and written, for the length of the call.
    let result = unsafe entries.withUnsafeMutableBufferPointer {
      unsafe czcopy_poll($0.baseAddress, count, milliseconds)
    }
    guard result >= 0 else { throw Errno(rawValue: -result) }
  }

  private var limits: DomainLimits {
    let index = Int(domain.rawValue)
    return machine.change { $0.domains[index].limits }
  }
}

extension MachineState {
  /// Sync files that stand for a dma-buf's events in a poll, nil for another file.
  fileprivate mutating func pollFiles(
    _ number: Int32, events: Int16, in domain: DomainID
  ) throws(Errno) -> [(file: Int32, event: Int16)]? {
    // poll itself reports a descriptor that is not open.
    guard let position = try? position(ofDmaBuf: number, in: domain) else { return nil }
    let waits = [(Int16(POLLIN), BufferAccess.read), (Int16(POLLOUT), .write)]
      .filter { events & $0.0 != 0 }
      .map { event, access in (event, fences(ofDmaBuf: position, before: access)) }
    var files: [(file: Int32, event: Int16)] = []
    for (event, waited) in waits {
      files.append((try makeSyncFile(nil, waited, in: domain), event))
    }
    return files
  }
}
