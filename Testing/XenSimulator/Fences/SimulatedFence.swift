public import SystemPackage

/// A device's access to a dma-buf's memory, which ends when a test ends it.
public struct SimulatedFence: Sendable {
  let machine: SimulatedMachine
  let id: FenceID

  /// Ends the access; waiting processes continue. A second call has no effect.
  ///
  /// - Parameter error: the error of the access, if it failed; waiting processes continue in this
  ///   case too.
  public func signal(error: Errno? = nil) {
    let id = id
    machine.change { $0.signal(id, error: error) }
  }
}
