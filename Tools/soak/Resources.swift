import DmaBuf
import XenGrant
import ZcopyBackend

/// Sources of memory, with names for a command line.
enum Memory: String, CaseIterable {
  case gntalloc, udmabuf, heap
  /// An existing dma-buf.
  case given
}

/// The mechanisms that work in this domain.
struct Means {
  let memories: [Memory]
  let mechanisms: [Mechanism]

  init(_ xen: Xen) throws {
    let dmaBufs = DmaBufSystem()
    let support = SharingSupport(xen: xen, dmaBufs: dmaBufs)
    let heap = support.works(.heap("system")) ?? false
    memories = Memory.allCases.filter { memory in
      switch memory {
      case .gntalloc: support.hasAllocator
      case .udmabuf: support.works(.udmabuf) ?? false
      case .heap, .given: heap
      }
    }
    let exports = try xen.openGrantDevice().exportSupport() == .usable
    mechanisms = Mechanism.allCases.filter { mechanism in
      switch mechanism {
      case .dmabuf: exports
      case .copy: support.udmabufObstacle == nil
      case .cpu: true
      }
    }
    guard !memories.isEmpty else { throw Stop("this domain can share no memory") }
  }

  func memory(_ cycle: Plan.Cycle) -> Memory { memories[cycle.choices.owner % memories.count] }

  func mechanism(_ cycle: Plan.Cycle) -> Mechanism {
    mechanisms[cycle.choices.peer % mechanisms.count]
  }
}
