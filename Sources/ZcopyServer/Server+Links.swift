import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import XenGrant
import ZcopyBackend

extension Server {
  // MARK: - To the owner of a mapped buffer

  /// Connects a mapped buffer to its owner, and says that it is mapped.
  func connect(_ buffer: Buffer, _ publication: Publication) throws(RequestError) {
    do throws(ChannelError) {
      buffer.importerChannel = try ImporterChannel(publication, xen: xen)
    } catch {
      throw RequestError(error, buffer.domain)
    }
    try listen(to: buffer.importerChannel?.fileDescriptor, buffer) { $0.lookAtOwner($1) }
    do throws(XenError) {
      try buffer.importerChannel?.announceMapped()
    } catch {
      throw RequestError(error, buffer.domain)
    }
  }

  private func listen(
    to file: FileDescriptor?, _ buffer: Buffer, _ look: @escaping (Server, Buffer) -> Void
  ) throws(RequestError) {
    guard let file else { return }
    do throws(Errno) {
      buffer.channelRegistration = try loop.onReadable(file) { [unowned self, unowned buffer] in
        look(self, buffer)
      }
    } catch {
      throw RequestError(
        XEN_ZCOPYD_E_RESOURCES, buffer.domain,
        "cannot wait for the event channel to domain \(buffer.domain): \(error)")
    }
  }

  /// Goes on with the links that a predecessor had.
  func resumeLooking(_ buffer: Buffer, _ state: BufferState) throws(RequestError) {
    if buffer.importerChannel != nil, buffer.isLive {
      try listen(to: buffer.importerChannel?.fileDescriptor, buffer) { $0.lookAtOwner($1) }
      // What came while nobody looked.
      lookAtOwner(buffer)
      buffer.usedFrame = state.usedFrame
      try settleFrame(buffer)
    }
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_SHARED else { return }
    if buffer.exporterChannel != nil {
      try listen(to: buffer.exporterChannel?.fileDescriptor, buffer) { $0.lookAtPeer($1) }
      lookAtPeer(buffer)
    }
    if buffer.state == XEN_ZCOPYD_STATE_RELEASING { tellIfLate(buffer) }
  }

  /// Tells what the owner did.
  func lookAtOwner(_ buffer: Buffer) {
    do throws(ChannelError) {
      guard let changes = try buffer.importerChannel?.changes() else { return }
      for change in changes {
        switch change {
        case .frame(let frame):
          let page = buffer.importerChannel?.framePage ?? 0
          // Clients read there, by a number that a guest wrote.
          do throws(MapError) { try buffer.facts.check(frameAt: page) } catch {
            return lose(buffer, error)
          }
          buffer.frame = frame
          count(buffer.domain) { $0.frames += 1 }
          tell(XEN_ZCOPYD_EVENT_FRAME, buffer, frame: frame, page: page)
        case .closing: tell(XEN_ZCOPYD_EVENT_CLOSING, buffer)
        case .died: tell(XEN_ZCOPYD_EVENT_PEER_GONE, buffer)
        }
      }
    } catch {
      lose(buffer, error)
    }
  }

  /// A link over which nonsense came, or whose event channel is lost: it is not looked at any more.
  private func lose(_ buffer: Buffer, _ error: any Error) {
    logger.warning("\(error)", metadata: buffer.metadata)
    if let registration = buffer.channelRegistration { loop.remove(registration) }
    buffer.channelRegistration = nil
    tell(XEN_ZCOPYD_EVENT_PEER_GONE, buffer)
  }

  /// FRAME.
  func frame(
    _ id: BufferID, _ frame: UInt32, _ page: UInt32, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try live(id, connection)
    var reply = xen_zcopyd_frame()
    reply.header = header(XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, xen_zcopyd_frame.self, number)
    reply.id = id.wire
    reply.page = page
    if buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED {
      guard buffer.importerChannel != nil else { throw Self.noFrames(buffer) }
      buffer.usedFrame = frame
      try settleFrame(buffer)
      reply.frame = frame
    } else {
      reply.frame = try announceFrame(buffer, page)
    }
    connection.send(reply)
  }

  private static func noFrames(_ buffer: Buffer) -> RequestError {
    .invalid("buffer \(buffer.id) has no frames: it was not published")
  }

  /// Tells the owner that a frame was used, once no device is at work with the buffer.
  private func settleFrame(_ buffer: Buffer) throws(RequestError) {
    guard let frame = buffer.usedFrame, !buffer.isAskingDevices else { return }
    guard try isIdle(buffer) else {
      buffer.isAskingDevices = true
      onceIdle(buffer) { [weak self, weak buffer] in
        guard let self, let buffer else { return }
        buffer.isAskingDevices = false
        do throws(RequestError) { try settleFrame(buffer) } catch {
          logger.warning("\(error.text)", metadata: buffer.metadata)
        }
      }
      return
    }
    buffer.usedFrame = nil
    do throws(XenError) {
      try buffer.importerChannel?.announceUsed(frame: frame)
    } catch {
      throw RequestError(error, buffer.domain)
    }
  }

  // MARK: - To the peer of a shared buffer

  /// Makes a control page for a shared buffer, and publishes both.
  func publish(
    _ buffer: Buffer, _ name: String, _ description: MapParameters
  ) throws(RequestError) {
    var request = description
    request.directory = buffer.facts.directory
    do throws(XenError) {
      buffer.exporterChannel = try ExporterChannel(
        peer: buffer.domain, xen: xen, allocator: try xen.openGrantAllocator())
    } catch {
      throw RequestError(error, buffer.domain)
    }
    try listen(to: buffer.exporterChannel?.fileDescriptor, buffer) { $0.lookAtPeer($1) }
    do throws(XenError) {
      buffer.publication = try publication(name, request, buffer)
    } catch {
      throw RequestError(error, buffer.domain)
    }
  }

  private func publication(
    _ name: String, _ request: MapParameters, _ buffer: Buffer
  ) throws(XenError) -> OwnPublication? {
    switch buffer.exporterChannel {
    case .some(let link):
      try OwnPublication(name, request: request, link: link, xen: xen)
    case .none: nil
    }
  }

  /// Tells what the peer did, and lets go of a buffer that it has released.
  private func lookAtPeer(_ buffer: Buffer) {
    do throws(ChannelError) {
      guard let changes = try buffer.exporterChannel?.changes() else { return }
      for change in changes {
        switch change {
        case .mapped: tell(XEN_ZCOPYD_EVENT_PEER_MAPPED, buffer)
        case .used(let frame): tell(XEN_ZCOPYD_EVENT_USED, buffer, frame: frame)
        case .released: tell(XEN_ZCOPYD_EVENT_PEER_RELEASED, buffer)
        case .died: tell(XEN_ZCOPYD_EVENT_PEER_GONE, buffer)
        }
      }
    } catch {
      return lose(buffer, error)
    }
    if !buffer.isLive, buffer.exporterChannel?.isMapped == false { withdraw(buffer) }
  }

  private func announceFrame(_ buffer: Buffer, _ page: UInt32) throws(RequestError) -> UInt32 {
    guard buffer.exporterChannel != nil else { throw Self.noFrames(buffer) }
    do throws(MapError) { try buffer.facts.check(frameAt: page) } catch {
      throw .invalid("a frame at page \(page) lies outside of buffer \(buffer.id)")
    }
    do throws(XenError) {
      try buffer.exporterChannel?.announceFrame(at: page)
    } catch {
      throw RequestError(error, buffer.domain)
    }
    buffer.frame = buffer.exporterChannel?.frame ?? buffer.frame
    count(buffer.domain) { $0.frames += 1 }
    return buffer.frame
  }

  // MARK: - Devices

  /// Whether no device is at work with a mapped buffer.
  func isIdle(_ buffer: Buffer) throws(RequestError) -> Bool {
    do throws(MapError) {
      return try buffer.mapped?.isIdle() ?? true
    } catch {
      throw RequestError(error, buffer.domain)
    }
  }

  /// Calls when the devices that are at work with a buffer now are done.
  ///
  /// - Returns: what the loop takes to forget it, and the fences with it.
  @discardableResult
  func onceIdle(_ buffer: Buffer, _ then: @escaping () -> Void) -> EventLoop.Registration {
    guard let fences = try? buffer.mapped?.exportFences() else {
      // Before Linux 6.0 nobody tells.
      return loop.after(.milliseconds(5), then)
    }
    do throws(Errno) {
      return try loop.onSignalled(fences, then)
    } catch {
      return loop.after(.milliseconds(5), then)
    }
  }
}
