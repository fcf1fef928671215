import DmaBuf
import EventLoop
package import Logging
import Support
public import SystemPackage
public import XenGrant
public import ZcopyBackend

/// The phase of a buffer's life.
public enum BufferPhase: Equatable, Sendable {
  /// In use.
  case live
  /// Closed; a process, a device or the peer still holds it.
  case releasing
  /// The same, for longer than the release deadline of its domain.
  case late
  /// The kernel has released its pages, or nothing can find out whether it has.
  case released
}

/// A buffer of an engine, from when it is made until nothing holds its pages.
public final class Buffer {
  /// Its identifier, which is never used again.
  public let id: BufferID
  /// What does not change.
  public let description: BufferDescription
  /// Its domain's record; nil before the domain is watched.
  package internal(set) var domainRecord: DomainRecord?
  /// The holder; nil if the buffer is persistent, or its holder has ended.
  public internal(set) var holder: HolderID?
  /// Whether events of it are reported: not before the request that made it has succeeded.
  package internal(set) var isActive = false
  /// The phase of its life.
  public private(set) var phase = BufferPhase.live
  /// When that phase began.
  package private(set) var phaseStart: BootClock.Instant
  /// The number of the last frame that either side announced.
  public internal(set) var frame: FrameNumber = 0
  /// Why nothing can find out whether its pages are still held, if that is so.
  public internal(set) var failure: EngineError?

  /// Waits for its release.
  package internal(set) var waiters: [ReleaseWaiter] = []
  /// A frame that was used. It is reported to the owner once no device accesses the buffer.
  var usedFrame: FrameNumber?
  /// The loop's wait for the devices that access that frame.
  var frameWait: EventLoop.Registration?
  /// The loop's wait for devices, shared by all copies of the buffer.
  var deviceWait: EventLoop.Registration?
  /// Reports a peer that is late, once the peer was asked to release the buffer.
  var lateTimer: EventLoop.Registration?
  /// Its number in the queue of releases, once it is there.
  var release: UInt64?

  /// Another domain's memory, while the buffer is live.
  var mapped: MappedBuffer?
  /// The channel to the owner of mapped memory, if the owner published it.
  var importerChannel: ImporterChannel?
  /// Memory of this domain, until its grants are withdrawn.
  var shared: SharedBuffer?
  /// The channel to the peer of shared memory, if it was published.
  var exporterChannel: ExporterChannel?
  /// Its entry in XenStore.
  package internal(set) var publication: OwnPublication?
  /// The loop's registration of the channel.
  var channelRegistration: EventLoop.Registration?

  init(_ id: BufferID, _ description: BufferDescription, holder: HolderID?) {
    self.id = id
    self.description = description
    self.holder = description.isPersistent ? nil : holder
    phaseStart = description.created
  }

  /// The domain on the other side.
  public var domain: DomainID { description.domain }
  /// Whether it is in use.
  public var isLive: Bool { phase == .live }

  func enter(_ phase: BufferPhase, _ now: BootClock.Instant) {
    self.phase = phase
    phaseStart = now
  }

  /// Restores the phase that the buffer had before a live update.
  func resume(_ phase: BufferPhase, since: BootClock.Instant) {
    isActive = true
    enter(phase, since)
  }

  /// The dma-buf's descriptor while the buffer is live. The buffer owns it: duplicate it to keep
  /// it.
  public var fileDescriptor: FileDescriptor? {
    if let file = mapped?.fileDescriptor { return file }
    return shared?.fileDescriptor
  }

  /// Fields for the journal.
  package var metadata: Logger.Metadata { ["domain": "\(domain)", "buffer": "\(id)"] }
}

/// A wait for a buffer's release, with an optional time limit.
package final class ReleaseWaiter {
  /// The holder that waits.
  package let holder: HolderID?
  /// The number that the holder chose.
  package let tag: UInt64
  /// When the time has passed; nil without a limit.
  package let due: BootClock.Instant?
  let report: (ReleaseOutcome) -> Void
  var timer: EventLoop.Registration?

  init(
    _ holder: HolderID?, _ tag: UInt64, due: BootClock.Instant?,
    _ report: @escaping (ReleaseOutcome) -> Void
  ) {
    self.holder = holder
    self.tag = tag
    self.due = due
    self.report = report
  }
}

/// How a wait for a release ended.
public enum ReleaseOutcome: Equatable, Sendable {
  /// The kernel has released the pages.
  case released
  /// The time passed first; the error names the holders.
  case timedOut(EngineError)
  /// Nothing can find out whether the pages are released.
  case failed(EngineError)
}

/// What happens to a buffer.
public enum BufferEvent: Equatable, Sendable {
  /// The owner has drawn a frame, which begins at that page.
  case frame(FrameNumber, page: UInt32)
  /// The peer has used a frame.
  case used(FrameNumber)
  /// The peer has mapped the buffer.
  case peerMapped
  /// The peer has released the buffer.
  case peerReleased
  /// The process on the other side has died. With an error the channel is damaged, or its event
  /// channel is lost: the engine does not read it any more.
  case peerGone(EngineError?)
  /// The owner asks for its pages.
  case closing
  /// The release deadline has passed and the buffer is still held.
  case late
  /// The last event: the pages are released, or the error says why nothing can find that out.
  case released(EngineError?)
}
