import XenSimulator

#if canImport(Glibc)
  import Glibc
#endif

extension SimulatedDomain {
  /// Whether it soon has what it had before.
  ///
  /// A program that another test starts has a copy of each descriptor until it runs: so long what was closed here is open.
  func settles(at before: DomainCensus) -> Bool {
    for _ in 0..<10_000 {
      if census == before { return true }
      usleep(1000)
    }
    return false
  }
}
