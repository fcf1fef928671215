public import SystemPackage

/// Work of a device with a dma-buf's memory, which ends when a test says so.
public struct SimulatedFence: Sendable {
  let machine: SimulatedMachine
  let id: FenceID

  /// Ends the work: who waits for it goes on. A second time has no effect.
  ///
  /// - Parameter error: why it failed, if it did; who waits goes on all the same.
  public func signal(error: Errno? = nil) {
    let id = id
    machine.change { $0.signal(id, error: error) }
  }
}
