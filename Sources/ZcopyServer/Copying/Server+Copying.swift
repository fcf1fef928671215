import CZcopy
import DmaBuf
import EventLoop
import SystemPackage
import XenGrant
import ZcopyBackend

extension Server {
  /// REFRESH.
  func refresh(
    _ id: BufferID, _ ranges: [Range<Int>]?, isWriteBack: Bool, _ number: UInt64,
    _ connection: Connection
  ) throws(RequestError) {
    let buffer = try live(id, connection)
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED else {
      throw RequestError(
        XEN_ZCOPYD_E_UNSUPPORTED, buffer.domain,
        "buffer \(id) is this domain's own memory: there is nothing to refresh")
    }
    let size = buffer.facts.chargedBytes
    let wanted = ranges ?? [0..<size]
    if let outside = wanted.first(where: { $0.upperBound > size }) {
      throw RequestError(.rangeOutside(outside, size: size), buffer.domain)
    }
    guard buffer.facts.mechanism == XEN_ZCOPYD_MECHANISM_COPY else {
      return acknowledge(XEN_ZCOPYD_REFRESH, number, connection)
    }
    try begin(connection)
    begin(
      CopyJob(
        isWriteBack ? .writeBack : .refresh, of: id, wanted,
        for: PendingRequest(connection: connection.number, number: number)))
  }

  /// READ.
  func read(
    _ id: BufferID, _ offset: UInt64, _ length: UInt64, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    if let domain = buffers[id]?.domain { try lookBeforeUse(of: domain) }
    let buffer = try live(id, connection)
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED else {
      throw RequestError(
        XEN_ZCOPYD_E_UNSUPPORTED, buffer.domain,
        "buffer \(id) is this domain's own memory: map its dma-buf")
    }
    let size = buffer.facts.byteCount
    guard offset <= size, length <= UInt64(size) - offset else {
      throw .invalid("buffer \(id) has \(size) bytes: \(length) at \(offset) lie outside of it")
    }
    let start = Int(offset)
    let range = start..<(length == 0 ? size : start + Int(length))
    // A page for each end that is not at one.
    let bytes = min(range.count + 2 * GrantReference.pageSize, buffer.facts.chargedBytes)
    try checkUnread(bytes, connection)
    try begin(connection)
    connection.reserve(bytes)
    begin(
      CopyJob(
        .read, of: id, [range],
        for: PendingRequest(connection: connection.number, number: number), reserving: bytes))
  }

  /// What was read and is not taken is memory of this process, which the kernel frees for nobody else.
  private func checkUnread(_ bytes: Int, _ connection: Connection) throws(RequestError) {
    let user = connection.credentials.user
    let unread = connections.values.reduce(0) { sum, other in
      other.credentials.user == user ? sum + other.unreceivedBytes() : sum
    }
    guard unread == 0 || unread + bytes <= Int(XEN_ZCOPYD_READ_MAX) else {
      throw RequestError(
        XEN_ZCOPYD_E_LIMIT, nil,
        "clients of user \(user) have \(ByteSize(bytes: unread)) in replies to READ that they have not received, of at "
          + "most \(ByteSize(bytes: Int(XEN_ZCOPYD_READ_MAX))): receive these first")
    }
  }

  // MARK: - One piece after the other

  private func begin(_ job: CopyJob) {
    jobs.add(job)
    goOn()
  }

  /// Goes on with what can go on: one piece at the end of each turn, in which all others were heard.
  func goOn() {
    guard !isCopying, jobs.canGoOn else { return }
    isCopying = true
    loop.after(.zero) { [weak self] in
      guard let self else { return }
      isCopying = false
      if let job = jobs.next() { work(on: job) }
      goOn()
    }
  }

  private func work(on job: CopyJob) {
    do throws(RequestError) {
      if let domain = buffers[job.buffer]?.domain { try lookBeforeUse(of: domain) }
      guard let buffer = buffers[job.buffer], buffer.isLive else { throw .unknown(job.buffer) }
      // Devices that read the copy must be done with it before it changes.
      if job.kind != .read, try !isIdle(buffer) { return wait(job, buffer) }
      let ranges = job.next()
      try copy(ranges, job, buffer)
      let copied = UInt64(ranges.reduce(0) { $0 + $1.count })
      count(buffer.domain) { $0.refreshedBytes += copied }
      if job.isDone { try finish(job) }
    } catch {
      jobs.remove(job)
      connections[job.request.connection]?.unreserve(job.reservedBytes)
      finish(job.request) { refuse(error, $0, $1, of: buffers[job.buffer]?.domain) }
    }
  }

  private func copy(
    _ ranges: [Range<Int>], _ job: CopyJob, _ buffer: Buffer
  ) throws(RequestError) {
    do {
      switch job.kind {
      case _ where ranges.isEmpty && job.kind != .read: break
      case .refresh: try buffer.mapped?.refresh(ranges)
      case .writeBack: try buffer.mapped?.writeBack(ranges)
      case .read:
        let target = try job.target ?? makeTarget(buffer)
        job.target = target
        for range in ranges { try buffer.mapped?.copyContents(range, into: target.file) }
      }
    } catch let error as MapError {
      throw RequestError(error, buffer.domain)
    } catch let error as DmaBufError {
      throw RequestError(MapError.memory(error), buffer.domain)
    } catch {
      throw RequestError(XEN_ZCOPYD_E_FAILED, buffer.domain, "\(error)")
    }
  }

  private func makeTarget(_ buffer: Buffer) throws(DmaBufError) -> ReadTarget {
    ReadTarget(
      try dmaBufs.makeMemoryFile(named: "zcopy-read", byteCount: buffer.facts.chargedBytes))
  }

  /// Replies to a job of which nothing is left.
  private func finish(_ job: CopyJob) throws(RequestError) {
    guard job.kind == .read else {
      jobs.remove(job)
      return finish(job.request) { acknowledge(XEN_ZCOPYD_REFRESH, $0, $1) }
    }
    guard let connection = connections[job.request.connection] else { return jobs.remove(job) }
    try connection.send(
      header(
        XEN_ZCOPYD_READ | XEN_ZCOPYD_REPLY, xen_zcopyd_header.self, job.request.number),
      file: job.target?.file.fileDescriptor, reserved: job.reservedBytes)
    jobs.remove(job)
    finish(job.request) { _, _ in }
  }

  // MARK: - Devices

  /// One wait serves all jobs of a buffer.
  private func wait(_ job: CopyJob, _ buffer: Buffer) {
    jobs.park(job)
    guard buffer.deviceWait == nil else { return }
    buffer.deviceWait = onceIdle(buffer) { [weak self, weak buffer] in
      guard let self, let buffer else { return }
      buffer.deviceWait = nil
      jobs.wake(buffer.id)
      goOn()
    }
  }

  /// Lets go of the fences that nobody waits for any more.
  func stopAskingDevices(for id: BufferID) {
    guard let buffer = buffers[id], let wait = buffer.deviceWait else { return }
    loop.remove(wait)
    buffer.deviceWait = nil
  }

  /// Gives up what is being copied, and says why.
  func interruptJobs(_ error: RequestError) {
    let interrupted = jobs.all
    jobs = CopyQueue()
    for job in interrupted {
      stopAskingDevices(for: job.buffer)
      connections[job.request.connection]?.unreserve(job.reservedBytes)
      finish(job.request) { refuse(error, $0, $1, of: buffers[job.buffer]?.domain) }
    }
  }
}
