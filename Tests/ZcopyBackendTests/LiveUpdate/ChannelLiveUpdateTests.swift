import CZcopy
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyBackend

@Suite("A link that is handed over")
struct ChannelLiveUpdateTests {
  /// The ways in which a process ends.
  enum End: CaseIterable { case killed, relinquished }

  @Test("by its owner survives, and the peer sees nothing but frames", arguments: End.allCases)
  func owner(_ end: End) throws {
    let stage = try Stage()
    let (before, others) = (stage.guest.census, stage.backend.census)
    do {
      let process = stage.guest.openProcess()
      let left: Inheritance<ExporterChannelState>
      var peer: ImporterChannel
      do {
        var link = try stage.makeOwner(process.xen)
        peer = try stage.makePeer(link)
        try link.announceFrame(at: 3)
        try peer.announceMapped()
        #expect(try link.changes() == [.mapped])
        #expect(try peer.changes() == [.frame(1)])
        left = try Inheritance(link.saveState())
        switch end {
        case .killed: process.kill()
        case .relinquished: link.relinquish()
        }
      }
      #expect(!isReadable(peer.fileDescriptor))
      // A change by the peer while no owner runs is reported to the successor.
      try peer.announceUsed(frame: 1)
      let next = stage.guest.openProcess()
      var link = try ExporterChannel(resuming: left.state, left.take(), xen: next.xen)
      #expect(!isReadable(peer.fileDescriptor))
      #expect(isReadable(link.fileDescriptor))
      #expect(try link.changes() == [.used(frame: 1)])
      let isMapped = link.isMapped
      #expect(isMapped)
      #expect(try peer.changes() == [])
      try link.announceFrame(at: 4)
      #expect(link.frame == 2)
      #expect(try peer.changes() == [.frame(2)])
      #expect(peer.framePage == 4)
      try link.announceClosing()
      #expect(try peer.changes() == [.closing])
    }
    #expect(stage.guest.census(expecting: before) == before)
    #expect(stage.backend.census(expecting: others) == others)
  }

  @Test(
    "by its peer survives, and no change is reported to the owner",
    arguments: [DomainKind.pvh, .pv], End.allCases)
  func peer(_ kind: DomainKind, _ end: End) throws {
    let stage = try Stage(kind: kind)
    let (before, others) = (stage.backend.census, stage.guest.census)
    do {
      var owner = try stage.makeOwner()
      let process = stage.backend.openProcess()
      let left: Inheritance<ImporterChannelState>
      do {
        var link = try stage.makePeer(owner, process.xen)
        try link.announceMapped()
        #expect(try owner.changes() == [.mapped])
        try owner.announceFrame()
        #expect(try link.changes() == [.frame(1)])
        left = try Inheritance(link.saveState())
        switch end {
        case .killed: process.kill()
        case .relinquished: link.relinquish()
        }
      }
      #expect(!isReadable(owner.fileDescriptor))
      try owner.announceFrame(at: 5)
      let next = stage.backend.openProcess()
      var link = try ImporterChannel(resuming: left.state, left.take(), xen: next.xen)
      #expect(!isReadable(owner.fileDescriptor))
      let isMapped = owner.isMapped
      #expect(isMapped)
      #expect(try owner.changes() == [])
      #expect(isReadable(link.fileDescriptor))
      #expect(try link.changes() == [.frame(2)])
      #expect(link.framePage == 5)
      try link.announceUsed(frame: 2)
      #expect(try owner.changes() == [.used(frame: 2)])
      // The new mapping reports the end of its process as the old one did.
      next.kill()
      #expect(isReadable(owner.fileDescriptor))
      #expect(try owner.changes() == [.died])
    }
    #expect(stage.backend.census(expecting: before) == before)
    #expect(stage.guest.census(expecting: others) == others)
  }

  @Test("without a successor ends with its last descriptor, and the other side is notified then")
  func noSuccessor() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let left: Inheritance<ImporterChannelState>
    do {
      let link = try stage.makePeer(owner, process.xen)
      try link.announceMapped()
      #expect(try owner.changes() == [.mapped])
      left = try Inheritance(link.saveState())
      process.kill()
    }
    #expect(try owner.changes() == [])
    left.close()
    #expect(stage.backend.census.openHandles == 0)
    #expect(try owner.changes() == [.died])
  }

  @Test("with an old state reports its frames again, and continues its owner's count")
  func oldState() throws {
    let stage = try Stage()
    let processes = (stage.guest.openProcess(), stage.backend.openProcess())
    let ownerLeft: Inheritance<ExporterChannelState>
    let peerLeft: Inheritance<ImporterChannelState>
    do {
      var owner = try stage.makeOwner(processes.0.xen)
      var peer = try stage.makePeer(owner, processes.1.xen)
      ownerLeft = try Inheritance(owner.saveState())
      peerLeft = try Inheritance(peer.saveState())
      try peer.announceMapped()
      for _ in 0..<3 { try owner.announceFrame() }
      #expect(try peer.changes() == [.frame(3)])
      #expect(try owner.changes() == [.mapped])
      processes.0.kill()
      processes.1.kill()
    }
    var owner = try ExporterChannel(
      resuming: ownerLeft.state, ownerLeft.take(), xen: stage.guest.xen)
    var peer = try ImporterChannel(
      resuming: peerLeft.state, peerLeft.take(), xen: stage.backend.xen)
    #expect(try peer.changes() == [.frame(3)])
    #expect(try owner.changes() == [.mapped])
    try owner.announceFrame()
    #expect(owner.frame == 4)
    #expect(try peer.changes() == [.frame(4)])
  }

  @Test("with a signal that was taken and not acknowledged receives the next one")
  func masked() throws {
    let stage = try Stage()
    let owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let left: Inheritance<ImporterChannelState>
    do {
      var link = try stage.makePeer(owner, process.xen)
      _ = try link.changes()
      try owner.announceClosing()
      #expect(try link.events.nextPending() == link.port)
      left = try Inheritance(link.saveState())
      process.kill()
    }
    var link = try ImporterChannel(resuming: left.state, left.take(), xen: stage.backend.xen)
    try owner.announceClosing()
    #expect(isReadable(link.fileDescriptor))
    #expect(try link.changes() == [.closing])
  }

  @Test("whose owner has ended meanwhile reports that, and releases its page")
  func ended() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let process = stage.backend.openProcess()
    do {
      let left: Inheritance<ImporterChannelState>
      do {
        let owner = try stage.makeOwner()
        let link = try stage.makePeer(owner)
        left = try Inheritance(link.saveState())
        link.relinquish()
      }
      // The inherited device still maps the page.
      #expect(stage.guest.census.deferredPages == 1)
      var link = try ImporterChannel(resuming: left.state, left.take(), xen: process.xen)
      #expect(try link.changes() == [.died])
    }
    #expect(stage.backend.census(expecting: before) == before)
    #expect(stage.guest.census.deferredPages == 0)
  }

  @Test("is refused after the owner's whole domain has ended")
  func destroyed() throws {
    let stage = try Stage()
    let left: Inheritance<ImporterChannelState>
    do {
      let owner = try stage.makeOwner()
      let link = try stage.makePeer(owner)
      left = try Inheritance(link.saveState())
      link.relinquish()
    }
    stage.guest.destroy()
    let refusal = error { () throws(LiveUpdateError) in
      _ = try ImporterChannel(resuming: left.state, left.take(), xen: stage.backend.xen)
    }
    guard case .xen(let reason) = refusal else {
      Issue.record("\(String(describing: refusal))")
      return
    }
    #expect(reason.call == .mapNotify)
    let census = stage.backend.census
    #expect((census.openHandles, census.activeMaps, census.ports) == (0, 0, 0))
  }

  @Test("is refused with wrong descriptors, which are closed, and the other side is notified")
  func otherDescriptors() throws {
    let stage = try Stage()
    let (before, others) = (stage.backend.census, stage.guest.census)
    for choose in WrongDescriptors.all where choose.name != "the first of another" {
      do {
        var first = try stage.makeOwner()
        var second = try stage.makeOwner()
        let process = stage.backend.openProcess()
        let (left, other): (Inheritance<ImporterChannelState>, Inheritance<ImporterChannelState>)
        do {
          let one = try stage.makePeer(first, process.xen)
          let two = try stage.makePeer(second, process.xen)
          try one.announceMapped()
          left = try Inheritance(one.saveState())
          other = try Inheritance(two.saveState())
          process.kill()
        }
        let refusal = error { () throws(LiveUpdateError) in
          _ = try ImporterChannel(
            resuming: left.state, choose.from(left.take(), other.take()), xen: stage.backend.xen)
        }
        #expect(refusal != nil, "\(choose.name)")
        #expect(stage.backend.census(expecting: before) == before, "\(choose.name)")
        #expect(try first.changes() == [.mapped, .died], "\(choose.name)")
        #expect(try second.changes() == [], "\(choose.name)")
      }
      #expect(stage.guest.census(expecting: others) == others, "\(choose.name)")
    }
  }
}
