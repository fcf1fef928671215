import Logging
import DmaBuf
import EventLoop
import Support
import SystemPackage
import XenGrant
public import ZcopyBackend

extension Engine {
  // MARK: - To the owner of a mapped buffer

  /// Connects a mapped buffer to its owner, and announces that it is mapped.
  func connect(_ buffer: Buffer, _ publication: Publication) throws(EngineError) {
    let domain = buffer.domain
    do throws(ChannelError) {
      buffer.importerChannel = try ImporterChannel(publication, xen: xen)
    } catch {
      throw EngineError(error, domain)
    }
    try listen(to: buffer.importerChannel?.fileDescriptor, buffer) { $0.readOwner($1) }
    do throws(XenError) {
      try buffer.importerChannel?.announceMapped()
    } catch {
      throw EngineError(error, domain)
    }
  }

  private func listen(
    to file: FileDescriptor?, _ buffer: Buffer, _ read: @escaping (Engine, Buffer) -> Void
  ) throws(EngineError) {
    guard let file else { return }
    do throws(Errno) {
      buffer.channelRegistration = try loop.onReadable(file) { [unowned self, weak buffer] in
        if let buffer { read(self, buffer) }
      }
    } catch {
      throw EngineError(
        .resources, buffer.domain,
        "cannot wait for the event channel to domain \(buffer.domain): \(error)")
    }
  }

  /// Resumes the channels that a predecessor had.
  func resumeChannels(_ buffer: Buffer, usedFrame: FrameNumber?) throws(EngineError) {
    if buffer.importerChannel != nil, buffer.isLive {
      try listen(to: buffer.importerChannel?.fileDescriptor, buffer) { $0.readOwner($1) }
      // Events that arrived while no process listened.
      readOwner(buffer)
      buffer.usedFrame = usedFrame
      try reportUsedFrame(buffer)
    }
    guard !buffer.description.isMapped else { return }
    if buffer.exporterChannel != nil {
      try listen(to: buffer.exporterChannel?.fileDescriptor, buffer) { $0.readPeer($1) }
      readPeer(buffer)
    }
    if buffer.phase == .releasing { reportIfLate(buffer) }
  }

  /// Reports what the owner has done.
  func readOwner(_ buffer: Buffer) {
    do throws(ChannelError) {
      guard let changes = try buffer.importerChannel?.changes() else { return }
      for change in changes {
        switch change {
        case .frame(let frame):
          let page = buffer.importerChannel?.framePage ?? 0
          // A guest wrote the number, and readers rely on it.
          do throws(MapError) { try buffer.description.check(frameAt: page) } catch {
            return loseChannel(buffer, EngineError(error, buffer.domain))
          }
          buffer.frame = frame
          count(buffer.domain) { $0.frames += 1 }
          report(buffer, .frame(frame, page: page))
        case .closing: report(buffer, .closing)
        case .died: report(buffer, .peerGone(nil))
        }
      }
    } catch {
      loseChannel(buffer, EngineError(error, buffer.domain))
    }
  }

  /// Stops reading a channel that is damaged, or whose event channel is lost.
  private func loseChannel(_ buffer: Buffer, _ error: EngineError) {
    logger.warning("\(error)", metadata: buffer.metadata)
    if let registration = buffer.channelRegistration.take() { loop.remove(registration) }
    report(buffer, .peerGone(error))
  }

  private static func noFrames(_ buffer: Buffer) -> EngineError {
    .invalid("buffer \(buffer.id) has no frames: it was not published")
  }

  /// Reports to the owner of a mapped buffer that a frame was used, once no device accesses the
  /// buffer.
  ///
  /// - Throws: `EngineError.invalid` if the buffer was not mapped from a publication, or an error
  ///   of Xen.
  public func frameUsed(_ buffer: Buffer, _ frame: FrameNumber) throws(EngineError) {
    guard buffer.importerChannel != nil else { throw Self.noFrames(buffer) }
    buffer.usedFrame = frame
    try reportUsedFrame(buffer)
  }

  private func reportUsedFrame(_ buffer: Buffer) throws(EngineError) {
    guard let frame = buffer.usedFrame, buffer.frameWait == nil else { return }
    guard try isIdle(buffer) else {
      buffer.frameWait = onceIdle(buffer) { [weak self, weak buffer] in
        guard let self, let buffer else { return }
        buffer.frameWait = nil
        do throws(EngineError) { try reportUsedFrame(buffer) } catch {
          logger.warning("\(error.text)", metadata: buffer.metadata)
        }
      }
      return
    }
    buffer.usedFrame = nil
    do throws(XenError) {
      try buffer.importerChannel?.announceUsed(frame: frame)
    } catch {
      throw EngineError(error, buffer.domain)
    }
  }

  // MARK: - To the peer of a shared buffer

  /// Publishes a shared buffer in XenStore, with a channel for its frames.
  ///
  /// The peer may map it at once: write what it is to find before.
  ///
  /// - Parameters:
  ///   - buffer: a live shared buffer that is not published.
  ///   - name: 1 to 31 letters, digits, `-` and `_`.
  /// - Throws: `EngineError.invalid` for another buffer or name, or an error of Xen.
  public func publish(_ buffer: Buffer, as name: String) throws(EngineError) {
    guard !buffer.description.isMapped, buffer.isLive, buffer.exporterChannel == nil else {
      throw .invalid(
        "buffer \(buffer.id) cannot be published: it is not shared, or already published")
    }
    guard Publication.path(for: name) != nil else {
      throw .invalid("a buffer is published as 1 to 31 letters, digits, - and _, not as '\(name)'")
    }
    do throws(EngineError) {
      try makePublication(name, buffer)
    } catch {
      // It may be published again.
      if let registration = buffer.channelRegistration.take() { loop.remove(registration) }
      buffer.exporterChannel = nil
      throw error
    }
  }

  /// Makes a control page for a shared buffer, and publishes both.
  private func makePublication(_ name: String, _ buffer: Buffer) throws(EngineError) {
    do throws(XenError) {
      buffer.exporterChannel = try ExporterChannel(
        peer: buffer.domain, xen: xen, allocator: try xen.openGrantAllocator())
    } catch {
      throw EngineError(error, buffer.domain)
    }
    try listen(to: buffer.exporterChannel?.fileDescriptor, buffer) { $0.readPeer($1) }
    do throws(XenError) {
      buffer.publication = try publication(name, buffer)
    } catch {
      throw EngineError(error, buffer.domain)
    }
  }

  private func publication(
    _ name: String, _ buffer: Buffer
  ) throws(XenError) -> OwnPublication? {
    switch buffer.exporterChannel {
    case .some(let channel):
      try OwnPublication(
        name, request: buffer.description.parameters, channel: channel, xen: xen)
    case .none: nil
    }
  }

  /// Reports what the peer has done, and ends a closed buffer that it has released.
  private func readPeer(_ buffer: Buffer) {
    do throws(ChannelError) {
      guard let changes = try buffer.exporterChannel?.changes() else { return }
      for change in changes {
        switch change {
        case .mapped: report(buffer, .peerMapped)
        case .used(let frame): report(buffer, .used(frame))
        case .released: report(buffer, .peerReleased)
        case .died: report(buffer, .peerGone(nil))
        }
      }
    } catch {
      return loseChannel(buffer, EngineError(error, buffer.domain))
    }
    if !buffer.isLive, buffer.exporterChannel?.isMapped == false { withdraw(buffer) }
  }

  /// Announces a frame to the peer of a shared buffer.
  ///
  /// - Parameter page: the page of the buffer at which the frame begins.
  /// - Returns: the frame's number.
  /// - Throws: `EngineError.invalid` if the buffer is not published or the frame lies outside of
  ///   it, or an error of Xen.
  public func announceFrame(
    _ buffer: Buffer, at page: UInt32 = 0
  ) throws(EngineError) -> FrameNumber {
    guard buffer.exporterChannel != nil else { throw Self.noFrames(buffer) }
    do throws(MapError) { try buffer.description.check(frameAt: page) } catch {
      throw .invalid("a frame at page \(page) lies outside of buffer \(buffer.id)")
    }
    do throws(XenError) {
      try buffer.exporterChannel?.announceFrame(at: page)
    } catch {
      throw EngineError(error, buffer.domain)
    }
    buffer.frame = buffer.exporterChannel?.frame ?? buffer.frame
    count(buffer.domain) { $0.frames += 1 }
    return buffer.frame
  }

  // MARK: - Devices

  /// Whether no device accesses a mapped buffer.
  func isIdle(_ buffer: Buffer) throws(EngineError) -> Bool {
    do throws(MapError) {
      return try buffer.mapped?.isIdle() ?? true
    } catch {
      throw EngineError(error, buffer.domain)
    }
  }

  /// Calls `then` when the devices that access a buffer now have finished.
  ///
  /// - Returns: the loop's registration, which also holds the fences.
  func onceIdle(_ buffer: Buffer, _ then: @escaping () -> Void) -> EventLoop.Registration {
    guard let fences = try? buffer.mapped?.exportFences() else {
      // Linux before 6.0 exports no fences.
      return loop.after(.milliseconds(5), then)
    }
    do throws(Errno) {
      return try loop.onSignalled(fences, then)
    } catch {
      return loop.after(.milliseconds(5), then)
    }
  }
}
