import Synchronization
public import SystemPackage
public import XenGrant

/// An in-memory machine with Xen's rules, on which the code above ``XenPlatform`` runs unchanged.
///
/// Pages are pages of real files and are really shared, descriptors can be polled, and every call fails with the errno or
/// status with which Xen and Linux fail. What is simulated is what `XenContract` states, which real Xen is held to as well.
///
/// Three things differ. A dma-buf is a file of the right size whose contents are not the pages, see
/// ``bytes(ofDmaBuf:)``. A descriptor belongs to the real process and stays open when a simulated one is killed. What a
/// simulated process has mapped can be touched by its test until the mapping's value ends.
public final class SimulatedMachine: Sendable {
  private let state = Mutex(MachineState())

  /// A machine without domains.
  public init() {}

  /// Starts a domain. The first is domain 0; numbers count up and are not used again.
  ///
  /// - Parameters:
  ///   - kind: whether its memory is translated; a PV domain cannot make dma-bufs of foreign pages.
  ///   - name: what the toolstack calls it; `Domain-N` by default.
  ///   - grantFrames: the most frames of its grant table, with 512 entries each.
  ///   - gntallocLimit: the most pages that its processes share at the same time, gntalloc's `limit`.
  ///   - gntdevLimit: the most references in one call, gntdev's `limit`.
  ///   - maptrack: the most foreign pages that it maps at the same time.
  ///   - hasDmaBuf: whether its kernel's gntdev was built with dma-buf support.
  /// - Throws: `Errno` if this machine cannot simulate another domain.
  @discardableResult
  public func addDomain(
    kind: DomainKind = .pvh, name: String? = nil, grantFrames: Int = 64,
    gntallocLimit: Int = 1024, gntdevLimit: Int = 65536, maptrack: Int = 262_144,
    hasDmaBuf: Bool = true
  ) throws(Errno) -> SimulatedDomain {
    let limits = DomainLimits(
      grantFrames: grantFrames, gntallocLimit: gntallocLimit, gntdevLimit: gntdevLimit,
      maptrack: maptrack, hasDmaBuf: hasDmaBuf)
    return try state.withLock { (state) throws(Errno) -> SimulatedDomain in
      guard let number = UInt16(exactly: state.domains.count),
        let id = DomainID(rawValue: number)
      else { throw .noSpace }
      state.domains.append(try DomainState(id: id, kind: kind, limits: limits))
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

  /// Forgets how often calls were made.
  public func resetCalls() { change { $0.calls = CallCounts() } }

  /// Makes a call fail, in whatever domain it is made.
  ///
  /// - Parameters:
  ///   - call: the call.
  ///   - errno: what it fails with.
  ///   - count: how many of these calls go through before the one that fails.
  public func fail(_ call: XenError.Call, with errno: Errno, after count: Int = 0) {
    change { $0.faults.append(PlannedFault(call: call, errno: errno, remaining: count)) }
  }

  /// Forgets what was to fail and has not yet.
  public func clearFaults() { change { $0.faults = [] } }

  /// Dma-bufs of granted pages that somebody still has open, in all domains.
  public var liveDmaBufs: Int {
    change { state in
      state.reapDmaBufs()
      return state.exports.count
    }
  }

  /// All XenStore nodes, the root included.
  public var storeNodes: Int { change { $0.store.nodes.count } }

  /// What a device that reads a dma-buf sees: the granted pages.
  ///
  /// - Throws: EINVAL for a file that is no live dma-buf of this machine.
  public func bytes(ofDmaBuf file: FileDescriptor) throws(Errno) -> [UInt8] {
    let frames = try perform { (state) throws(Errno) in
      try state.frames(ofDmaBuf: file.rawValue)
    }
    var bytes = [UInt8](repeating: 0, count: frames.count * GrantReference.pageSize)
    // SAFETY: bytes of any value are integers, and each slice is the page's own part of the array.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    unsafe try raw.withUnsafeMutableBytes {
      (buffer: UnsafeMutableRawBufferPointer) throws(Errno) in
      for (index, frame) in frames.enumerated() {
        let start = index * GrantReference.pageSize
        let page = unsafe UnsafeMutableRawBufferPointer(
          rebasing: buffer[start..<start + GrantReference.pageSize])
        unsafe try frame.store.read(at: frame.offset, into: page)
      }
    }
    return bytes
  }

  /// What a device does that writes into a dma-buf.
  ///
  /// - Throws: EINVAL for a file that is no live dma-buf of this machine, or a range outside of it.
  public func write(
    _ bytes: [UInt8], toDmaBuf file: FileDescriptor, at offset: Int = 0
  ) throws(Errno) {
    let frames = try perform { (state) throws(Errno) in
      try state.frames(ofDmaBuf: file.rawValue)
    }
    let size = frames.count * GrantReference.pageSize
    guard offset >= 0, bytes.count <= size, offset <= size - bytes.count else {
      throw .invalidArgument
    }
    // SAFETY: each slice is a part of the array.
    unsafe try bytes.span.bytes.withUnsafeBytes {
      (buffer: UnsafeRawBufferPointer) throws(Errno) in
      var done = 0
      while done < buffer.count {
        let inPage = (offset + done) % GrantReference.pageSize
        let frame = frames[(offset + done) / GrantReference.pageSize]
        let end = min(buffer.count, done + GrantReference.pageSize - inPage)
        let piece = unsafe UnsafeRawBufferPointer(rebasing: buffer[done..<end])
        unsafe try frame.store.write(piece, at: frame.offset + inPage)
        done = end
      }
    }
  }

  /// Looks at the state or changes it, and cannot fail.
  @discardableResult
  func change<Result: Sendable>(_ body: (inout MachineState) -> Result) -> Result {
    state.withLock { body(&$0) }
  }

  /// Does a call that can fail.
  func perform<Result: Sendable>(
    _ body: (inout MachineState) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try state.withLock { (state) throws(Errno) -> Result in try body(&state) }
  }
}
