import XenSimulator

#if canImport(Glibc)
  import Glibc
#endif

extension SimulatedDomain {
  /// Whether the domain soon has the expected resources. A program that another test starts holds a
  /// copy of each descriptor until its exec, so descriptors that were closed here stay open that
  /// long.
  func settles(at before: DomainCensus) -> Bool {
    for _ in 0..<10_000 {
      if census == before { return true }
      usleep(1000)
    }
    return false
  }
}
