import SystemPackage
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

extension FaultedOperations {
  /// One process hands over to itself: its calls on both sides fail.
  static let handingOver: [FaultedOperation] =
    Mechanism.makingDmaBuf.map { mechanism in
      FaultedOperation("hand over a buffer mapped by \(mechanism)", in: .backend) {
        stage, process, witness in
        let shared = try stage.share(pages: 2)
        let left: Inheritance<MappedBufferState>
        do {
          let buffer = try stage.map(shared, by: [mechanism], process)
          left = try Inheritance(try buffer.saveState())
        }
        let buffer = try MappedBuffer(
          resuming: left.state, left.take(), xen: process.xen, dmaBufs: process.dmaBufs)
        witness.note(buffer)
        try work(with: buffer, witness)
        let closed: Inheritance<ReleasingBufferState>
        do {
          let releasing = buffer.close()
          closed = try Inheritance(releasing.saveState())
        }
        let releasing = try ReleasingBuffer(
          resuming: closed.state, closed.take(), xen: process.xen)
        try release(releasing, witness)
      }
    }
    + [MemorySource.gntalloc, .udmabuf, .heap("system")].map { source in
      FaultedOperation("hand over a buffer shared from \(source)", in: .guest) {
        stage, process, witness in
        let left: Inheritance<SharedBufferState>
        do {
          let buffer = try stage.share(byteCount: 8192, from: source, process)
          left = try Inheritance(try buffer.saveState())
          buffer.relinquish()
        }
        let buffer = try SharedBuffer(
          resuming: left.state, left.take(), xen: process.xen, dmaBufs: process.dmaBufs)
        try work(with: buffer, witness)
        try buffer.withdraw()
      }
    } + [
      FaultedOperation("hand over the owner's side of a link", in: .guest) {
        stage, process, witness in
        let left: Inheritance<ExporterChannelState>
        do {
          var link = try stage.makeOwner(process.xen)
          try link.announceFrame()
          left = try Inheritance(link.saveState())
          link.relinquish()
        }
        var link = try ExporterChannel(resuming: left.state, left.take(), xen: process.xen)
        let peer = try stage.makePeer(link)
        try peer.announceMapped()
        witness.note("\(try link.changes()) \(link.frame)")
        try link.announceFrame()
      },
      FaultedOperation("hand over the peer's side of a link", in: .backend) {
        stage, process, witness in
        var owner = try stage.makeOwner()
        let left: Inheritance<ImporterChannelState>
        do {
          let link = try stage.makePeer(owner, process.xen)
          try link.announceMapped()
          left = try Inheritance(link.saveState())
          link.relinquish()
        }
        try owner.announceFrame()
        var link = try ImporterChannel(resuming: left.state, left.take(), xen: process.xen)
        witness.note("\(try link.changes())")
        try link.announceUsed(frame: 1)
        witness.note("\(try owner.changes())")
      },
      FaultedOperation(
        "hand over what is published", in: .guest, leavesNodes: [.xen(.remove)],
        continues: [.xen(.remove): "24"], orSays: "no longer this buffer's", with: makePublishers
      ) { stage, process, witness in
        let link = try stage.makeOwner()
        // This process withdraws the nodes that its successor does not take over.
        let published = try publish(link, stage.guest.xen)
        let resumed = try OwnPublication(resuming: published.saveState().state, xen: process.xen)
        published.relinquish()
        witness.note(resumed.path)
        resumed.withdraw()
        witness.note("\(stage.machine.storeNodes)")
      },
    ]
}
