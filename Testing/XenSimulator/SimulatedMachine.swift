public import DmaBuf
public import SystemPackage
public import XenGrant

/// An in-memory machine with Xen's rules, on which the code above ``XenPlatform`` runs unchanged.
///
/// Pages are pages of real files and are really shared, descriptors can be polled, and every call
/// fails with the errno or status with which Xen and Linux fail. The simulation has the behaviour
/// that `XenContract` states. The same contract is checked on real Xen.
///
/// Three things differ:
///
/// - A dma-buf is a file of the right size whose contents are not the memory. A process maps it
///   through `DmaBufPlatform`, and a test reads it through ``bytes(ofDmaBuf:)``.
/// - A descriptor belongs to the real process. When a simulated process is killed, the descriptor
///   of a dma-buf stays open, and that of a device keeps its number without a device behind it.
/// - A test can access memory that a simulated process has mapped until the mapping's value ends.
public final class SimulatedMachine: Sendable {
  private let state = StateLock(MachineState())

  /// A machine without domains.
  public init() {}

  /// Starts a domain. The first is domain 0. Numbers count up, and are reused only on request.
  ///
  /// - Parameters:
  ///   - kind: whether its memory is translated; a PV domain cannot make dma-bufs of foreign pages.
  ///   - name: its name in the toolstack; `Domain-N` by default.
  ///   - grantFrames: the most frames of its grant table, with 512 entries each.
  ///   - gntallocLimit: the most pages that its processes share at the same time, gntalloc's
  ///     `limit`.
  ///   - gntdevLimit: the most references in one call, gntdev's `limit`.
  ///   - maptrack: the most foreign pages that it maps at the same time.
  ///   - hasDmaBuf: whether its kernel's gntdev was built with dma-buf support.
  ///   - hasUdmabuf: whether its kernel has udmabuf.
  ///   - mayOpenUdmabuf: whether its processes have the right to it.
  ///   - udmabufLimit: the most bytes of one udmabuf, udmabuf's `size_limit_mb`.
  ///   - udmabufListLimit: the most pieces of one udmabuf, udmabuf's `list_limit`.
  ///   - heaps: the names of its dma-buf heaps.
  ///   - hasScatteredMemory: whether, in a PV domain, a heap's larger chunks lie apart in the
  ///     machine: gntdev grants bounce buffers then, or fails. Just after the boot of a PV domain 0
  ///     they do not.
  ///   - number: the number of an ended domain, which the new one gets. Values made for the old
  ///     domain then refer to the new one. Xen frees the number once no page of the old domain is
  ///     mapped any more.
  /// - Throws: `Errno` if this machine cannot simulate another domain: EEXIST if there is a domain
  ///   of that number, or a page of it is still mapped.
  @discardableResult
  public func addDomain(
    kind: DomainKind = .pvh, name: String? = nil, grantFrames: Int = 64,
    gntallocLimit: Int = 1024, gntdevLimit: Int = 65536, maptrack: Int = 262_144,
    hasDmaBuf: Bool = true, hasUdmabuf: Bool = true, mayOpenUdmabuf: Bool = true,
    udmabufLimit: Int = 64 << 20, udmabufListLimit: Int = 1024, heaps: [String] = ["system"],
    hasScatteredMemory: Bool = false, reusing number: DomainID? = nil
  ) throws(Errno) -> SimulatedDomain {
    let limits = DomainLimits(
      grantFrames: grantFrames, gntallocLimit: gntallocLimit, gntdevLimit: gntdevLimit,
      maptrack: maptrack, hasDmaBuf: hasDmaBuf,
      hasScatteredMemory: hasScatteredMemory,
      udmabuf: hasUdmabuf ? UdmabufLimits(byteCount: udmabufLimit, pieces: udmabufListLimit) : nil,
      mayOpenUdmabuf: mayOpenUdmabuf, heaps: heaps)
    return try state.withLock { (state) throws(Errno) -> SimulatedDomain in
      let id: DomainID
      if let number {
        id = try state.reuse(number)
        state.domains[Int(id.rawValue)] = try DomainState(id: id, kind: kind, limits: limits)
      } else {
        id = try state.newNumber()
        state.domains.append(try DomainState(id: id, kind: kind, limits: limits))
      }
      state.makeHome(of: id, name: name ?? "Domain-\(id)")
      let process = state.makeID()
      state.processes[process] = id
      return SimulatedDomain(
        id: id, kind: kind, machine: self,
        process: SimulatedProcess(machine: self, domain: id, id: process))
    }
  }

  /// How often each call was made on this machine.
  public var calls: CallCounts { change { $0.calls } }

  /// Resets the counts of calls.
  public func resetCalls() { change { $0.calls = CallCounts() } }

  /// The calls that are made while the closure runs, in their order, in all domains.
  public func calls<Failure: Error>(
    during body: () throws(Failure) -> Void
  ) throws(Failure) -> [SimulatedCall] {
    try journal(during: body).map(\.call)
  }

  func journal<Failure: Error>(
    during body: () throws(Failure) -> Void
  ) throws(Failure) -> [JournalEntry] {
    change { $0.journal = [] }
    defer { change { $0.journal = nil } }
    try body()
    return change { $0.journal ?? [] }
  }

  /// Injects a fault into calls, in all domains.
  ///
  /// - Parameters:
  ///   - fault: the fault, and the calls that it strikes.
  ///   - call: the call; nil for any.
  public func inject(_ fault: Fault, into call: SimulatedCall? = nil) {
    change { $0.faults.append(PlannedFault(fault, call, .everybody)) }
  }

  /// Makes a call into Xen fail, in any domain.
  ///
  /// - Parameters:
  ///   - call: the call.
  ///   - errno: the error.
  ///   - count: the number of such calls that succeed before.
  public func fail(_ call: XenError.Call, with errno: Errno, after count: Int = 0) {
    inject(.errno(errno).once(after: count), into: .xen(call))
  }

  /// Removes all faults that have not struck yet.
  public func clearFaults() { change { $0.faults = [] } }

  /// Dma-bufs of granted pages that are still open, in all domains.
  public var liveDmaBufs: Int {
    change { state in
      state.reapFiles()
      return state.dmaBufs.count { $0.exporter.isGrantDevice }
    }
  }

  /// Makes a dma-buf as a device's driver does, for instance a GPU's.
  ///
  /// - Parameters:
  ///   - pages: its size in pages.
  ///   - domain: the domain that has the device.
  ///   - kind: its special property.
  /// - Returns: its descriptor, which the caller closes.
  /// - Throws: EINVAL for zero pages, or an offset that is not within a page.
  public func makeForeignDmaBuf(
    pages: Int, in domain: SimulatedDomain, kind: ForeignDmaBuf = .ordinary
  ) throws(Errno) -> FileDescriptor {
    let id = domain.id
    return FileDescriptor(
      rawValue: try perform { (state) throws(Errno) in
        try state.makeForeignDmaBuf(pages: pages, kind, in: id)
      })
  }

  /// Starts a device's access to a dma-buf's memory.
  ///
  /// - Parameters:
  ///   - file: the dma-buf.
  ///   - access: the device's access.
  /// - Returns: the fence that ends the access.
  /// - Throws: EINVAL for a file that is not a live dma-buf of this machine.
  public func addFence(
    toDmaBuf file: FileDescriptor, as access: BufferAccess
  ) throws(Errno) -> SimulatedFence {
    let id = try perform { (state) throws(Errno) in
      try state.addFence(toDmaBuf: file.rawValue, as: access)
    }
    return SimulatedFence(machine: self, id: id)
  }

  /// All XenStore nodes, the root included.
  public var storeNodes: Int { change { $0.store.nodes.count } }

  /// The memory that a device sees when it reads a dma-buf.
  ///
  /// - Throws: EINVAL for a file that is not a live dma-buf of this machine.
  public func bytes(ofDmaBuf file: FileDescriptor) throws(Errno) -> [UInt8] {
    let dmaBuf = try dmaBuf(file)
    var bytes = [UInt8](repeating: 0, count: dmaBuf.byteCount)
    // SAFETY: bytes of any value are integers, and each piece is a part of the array.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    unsafe try raw.withUnsafeMutableBytes {
      (buffer: UnsafeMutableRawBufferPointer) throws(Errno) in
      for piece in dmaBuf.pieces(of: 0..<buffer.count) {
        unsafe try piece.frame.store.read(
          at: piece.frame.offset + piece.pageOffset,
          into: UnsafeMutableRawBufferPointer(rebasing: buffer[piece.range]))
      }
    }
    return bytes
  }

  /// A device's write into a dma-buf.
  ///
  /// - Throws: EINVAL for a file that is not a live dma-buf of this machine, or a range outside of
  ///   it.
  public func write(
    _ bytes: [UInt8], toDmaBuf file: FileDescriptor, at offset: Int = 0
  ) throws(Errno) {
    let dmaBuf = try dmaBuf(file)
    guard offset >= 0, bytes.count <= dmaBuf.byteCount, offset <= dmaBuf.byteCount - bytes.count
    else { throw .invalidArgument }
    // SAFETY: each piece is a part of the array.
    unsafe try bytes.span.bytes.withUnsafeBytes {
      (buffer: UnsafeRawBufferPointer) throws(Errno) in
      for piece in dmaBuf.pieces(of: offset..<offset + buffer.count) {
        unsafe try piece.frame.store.write(
          UnsafeRawBufferPointer(rebasing: buffer[piece.range]),
          at: piece.frame.offset + piece.pageOffset)
      }
    }
  }

  /// The name that a dma-buf was given; empty before.
  ///
  /// - Throws: EINVAL for a file that is not a live dma-buf of this machine.
  public func name(ofDmaBuf file: FileDescriptor) throws(Errno) -> String { try dmaBuf(file).name }

  private func dmaBuf(_ file: FileDescriptor) throws(Errno) -> DmaBufState {
    try perform { (state) throws(Errno) in
      guard let position = try state.position(ofDmaBuf: file.rawValue, in: nil) else {
        throw .invalidArgument
      }
      return state.dmaBufs[position]
    }
  }

  /// Reads or changes the state, and cannot fail.
  @discardableResult
  func change<Result: Sendable>(_ body: (inout MachineState) -> Result) -> Result {
    state.withLock { body(&$0) }
  }

  /// Performs a call that can fail.
  func perform<Result: Sendable>(
    _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try state.withLock { (state) throws(Errno) -> Result in try body(&state) }
  }
}
