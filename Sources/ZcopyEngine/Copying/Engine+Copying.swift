import DmaBuf
import EventLoop
import SystemPackage
import XenGrant
import ZcopyBackend

extension Engine {
  /// Copies contents of a live mapped buffer, a piece in each turn of the loop.
  ///
  /// - Parameters:
  ///   - kind: the direction; `refresh` and `writeBack` are for buffers of the mechanism `copy`.
  ///   - ranges: bytes of the buffer, within its pages.
  ///   - holder: the holder that requests it. Holders take turns, and ``cancelCopies(of:)`` cancels
  ///     the holder's copies.
  ///   - tag: the holder's number for it.
  ///   - report: called once, from the loop, with the job and its error, if it failed.
  package func copy(
    _ kind: CopyJob.Kind, of buffer: Buffer, _ ranges: [Range<Int>], for holder: HolderID,
    tag: UInt64, _ report: @escaping (CopyJob, EngineError?) -> Void
  ) {
    jobs.add(CopyJob(kind, of: buffer.id, ranges, for: holder, tag: tag, report))
    runNextJob()
  }

  /// Runs one piece of the next job at the end of each turn, in which all other events are handled.
  func runNextJob() {
    guard !isCopying, jobs.hasNext else { return }
    isCopying = true
    loop.after(.zero) { [weak self] in
      guard let self else { return }
      isCopying = false
      if let job = jobs.next() { run(job) }
      runNextJob()
    }
  }

  private func run(_ job: CopyJob) {
    do throws(EngineError) {
      if let domain = buffers[job.buffer]?.domain { try checkBeforeUse(domain) }
      guard let buffer = buffers[job.buffer], buffer.isLive else {
        throw EngineError(.gone, nil, "buffer \(job.buffer) is closed")
      }
      // Devices that read the copy must have finished before it changes.
      if job.kind != .read, try !isIdle(buffer) { return wait(job, buffer) }
      let ranges = job.next()
      try copy(ranges, job, buffer)
      let copied = UInt64(ranges.reduce(0) { $0 + $1.count })
      count(buffer.domain) { $0.refreshedBytes += copied }
      guard job.isDone else { return }
      jobs.remove(job)
      job.report(job, nil)
    } catch {
      jobs.remove(job)
      job.report(job, error)
    }
  }

  private func copy(
    _ ranges: [Range<Int>], _ job: CopyJob, _ buffer: Buffer
  ) throws(EngineError) {
    try failing(buffer) {
      switch job.kind {
      case _ where ranges.isEmpty && job.kind != .read: break
      case .refresh: try buffer.mapped?.refresh(ranges)
      case .writeBack: try buffer.mapped?.writeBack(ranges)
      case .read:
        let target = try job.target ?? makeTarget(buffer)
        job.target = target
        for range in ranges {
          try buffer.mapped?.copyContents(range, into: target.file)
          try buffer.shared?.copyContents(range, into: target.file)
        }
      }
    }
  }

  /// Calls, with an error of the buffer's memory as the engine's.
  private func failing(_ buffer: Buffer, _ body: () throws -> Void) throws(EngineError) {
    do {
      try body()
    } catch let error as MapError {
      throw EngineError(error, buffer.domain)
    } catch let error as ShareError {
      throw EngineError(error, buffer.domain)
    } catch let error as DmaBufError {
      throw EngineError(MapError.memory(error), buffer.domain)
    } catch {
      throw EngineError(.failed, buffer.domain, "\(error)")
    }
  }

  /// Writes bytes into the pages of a live buffer, at once.
  ///
  /// - Parameters:
  ///   - bytes: what is written; the caller limits how much.
  ///   - offset: the buffer's byte at which it is written.
  ///   - buffer: a mapped buffer, or a shared one without a dma-buf.
  /// - Throws: `EngineError`: `.invalid` outside of the buffer, `.gone` for a closed one, or an error of Xen.
  package func write(
    _ bytes: RawSpan, at offset: Int, to buffer: Buffer
  ) throws(EngineError) {
    try checkBeforeUse(buffer.domain)
    guard buffer.isLive else {
      throw EngineError(.gone, nil, "buffer \(buffer.id) is closed")
    }
    let count = bytes.byteCount
    try failing(buffer) {
      try buffer.mapped?.write(bytes, at: offset)
      try buffer.shared?.write(bytes, at: offset)
    }
    self.count(buffer.domain) { $0.refreshedBytes += UInt64(count) }
  }

  private func makeTarget(_ buffer: Buffer) throws(DmaBufError) -> ReadTarget {
    ReadTarget(
      try dmaBufs.makeMemoryFile(named: "zcopy-read", byteCount: buffer.description.chargedBytes))
  }

  /// One wait serves all jobs of a buffer.
  private func wait(_ job: CopyJob, _ buffer: Buffer) {
    jobs.park(job)
    guard buffer.deviceWait == nil else { return }
    buffer.deviceWait = onceIdle(buffer) { [weak self, weak buffer] in
      guard let self, let buffer else { return }
      buffer.deviceWait = nil
      jobs.wake(buffer.id)
      runNextJob()
    }
  }

  /// Closes the fences for which no job waits now.
  func stopWaitingForDevices(of id: BufferID) {
    if let wait = buffers[id]?.deviceWait.take() { loop.remove(wait) }
  }

  /// Cancels the copies of a holder. Nothing is reported.
  package func cancelCopies(of holder: HolderID) {
    for id in jobs.removeAll(of: holder) { stopWaitingForDevices(of: id) }
  }

  /// Stops all copies and reports that error to each.
  package func interruptCopies(_ error: EngineError) {
    let interrupted = jobs.all
    jobs = CopyQueue()
    for job in interrupted {
      stopWaitingForDevices(of: job.buffer)
      job.report(job, error)
    }
  }
}
