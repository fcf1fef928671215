import EventLoop
import Support
import SystemPackage
package import XenGrant
import ZcopyBackend

/// A domain's number, name and policy, which its buffers keep: after the domain's end XenStore does
/// not know its name.
package final class DomainRecord {
  package let number: DomainID
  package let name: String?
  package internal(set) var policy: DomainPolicy

  init(_ number: DomainID, _ name: String?, _ policy: EnginePolicy) {
    self.number = number
    self.name = name
    self.policy = policy.domain(number, name)
  }
}

/// A domain that has, or had, buffers here, until it ends.
package final class WatchedDomain {
  package let record: DomainRecord
  /// XenStore's entry of its virtual machine, which distinguishes guests that get one number after
  /// another.
  package let virtualMachine: String?
  package internal(set) var counters = Counters()
  private let watch: DomainWatch
  private let registration: EventLoop.Registration
  private let loop: EventLoop

  init(
    _ record: DomainRecord, _ virtualMachine: String?, _ watch: consuming DomainWatch,
    _ loop: EventLoop, _ look: @escaping () -> Void
  ) throws {
    self.record = record
    self.virtualMachine = virtualMachine
    self.loop = loop
    registration = try loop.onDomainEvents(watch, look)
    self.watch = watch
  }

  deinit { loop.remove(registration) }

  func isGone() throws(XenError) -> Bool { try watch.isGone() }

  /// Whether XenStore has reported an event that the loop has not handled yet.
  var hasPendingEvent: Bool { watch.fileDescriptor.isReady() }
}
