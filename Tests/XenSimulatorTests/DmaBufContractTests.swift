import DmaBuf
import SystemPackage
import Testing
import XenContract
import XenSimulator
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("The simulator keeps the contract about dma-bufs that is checked on Linux")
struct DmaBufContractTests {
  @Test("In a domain", arguments: DmaBufContract.checks)
  func contract(_ check: DmaBufCheck) throws {
    switch check.run(on: try SimulatedDmaBufBench()) {
    case .passed: break
    case .skipped(let reason): #expect(reason == "only a kernel can be asked that")
    case .failed(let reason): Issue.record("\(reason)")
    }
  }
}

/// A simulated domain on which the contract is checked.
struct SimulatedDmaBufBench: DmaBufBench {
  private let machine = SimulatedMachine()
  private let domain: SimulatedDomain
  let isKernel = false

  init() throws { domain = try machine.addDomain() }

  var dmaBufs: DmaBufSystem { domain.dmaBufs }

  func openWorker() throws(Errno) -> (any DmaBufWorker)? {
    try SimulatedWorker(machine, domain)
  }

  func census() -> [String: Int] {
    var counts: [String: Int] = [:]
    for child in Mirror(reflecting: domain.census).children {
      if let label = child.label, let count = child.value as? Int { counts[label] = count }
    }
    return counts
  }
}

/// A device of the machine, with a buffer of two pages of a heap.
private final class SimulatedWorker: DmaBufWorker {
  let driver = "simulated"
  private let machine: SimulatedMachine
  private let buffer: OwnedDescriptor
  private var work: [SimulatedFence] = []

  init(_ machine: SimulatedMachine, _ domain: SimulatedDomain) throws(Errno) {
    self.machine = machine
    buffer = OwnedDescriptor(
      FileDescriptor(
        rawValue: try domain.platform.allocate(byteCount: 2 * 4096, fromHeap: "system")))
  }

  deinit { for fence in work { fence.signal() } }

  func export() throws(Errno) -> OwnedDescriptor {
    try OwnedDescriptor(duplicating: buffer.fileDescriptor)
  }

  func attach(_ dmaBuf: FileDescriptor) throws(Errno) { throw .notSupported }

  func begin(writing: Bool) throws(Errno) -> UInt32 {
    work.append(try machine.addFence(toDmaBuf: buffer.fileDescriptor, as: writing ? .write : .read))
    return UInt32(work.count - 1)
  }

  func end(_ work: UInt32) throws(Errno) { self.work[Int(work)].signal() }

  func end(_ work: UInt32, after milliseconds: Int32) throws(Errno) {
    let fence = self.work[Int(work)]
    try TestThread {
      usleep(useconds_t(milliseconds) * 1000)
      fence.signal()
    }
  }
}
