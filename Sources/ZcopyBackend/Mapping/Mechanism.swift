/// A way in which another domain's pages become a local buffer.
public enum Mechanism: String, Sendable, CaseIterable {
  /// gntdev makes a dma-buf of the pages: no copy. Not in a PV domain, and only with `CONFIG_XEN_GNTDEV_DMABUF`.
  case dmabuf
  /// A udmabuf that is refreshed by grant copy: a dma-buf on any kernel, one copy for each frame.
  /// It also takes pages that are granted for reading only.
  case copy
  /// The processor maps the pages; there is no dma-buf.
  case cpu

  /// What is tried when nothing else is asked for, in this order.
  public static let automatic: [Mechanism] = [.dmabuf, .copy, .cpu]
  /// Those that make a dma-buf, in the order in which they are tried.
  public static let makingDmaBuf: [Mechanism] = [.dmabuf, .copy]
}

/// A mechanism that was tried and did not work, and why.
public struct PassedOver: Equatable, Sendable {
  /// The mechanism.
  public let mechanism: Mechanism
  /// Why it does not work here.
  public let reason: MapError
}

/// What the processor will do with a buffer's contents.
public enum ContentsAccess: Sendable {
  /// Look at them.
  case read
  /// Look at them and change them.
  case readWrite
}
