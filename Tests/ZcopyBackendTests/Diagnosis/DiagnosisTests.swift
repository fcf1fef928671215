import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A diagnosis")
struct DiagnosisTests {
  private typealias Verdict = Diagnosis.Finding.Verdict

  /// A kernel on Xen with all that mapping and sharing need.
  private static let files = [
    "/sys/hypervisor/type": "xen\n", "/sys/hypervisor/version/major": "4\n",
    "/sys/hypervisor/version/minor": "20\n", "/sys/hypervisor/version/extra": ".1-pre\n",
    "/sys/hypervisor/guest_type": "PVH\n", "/proc/xen/capabilities": "control_d\n",
    "/sys/module/xen_gntdev/parameters/limit": "65536\n",
    "/sys/module/xen_gntalloc/parameters/limit": "1024\n",
  ]

  private func diagnosis(_ domain: SimulatedDomain, _ root: String) -> Diagnosis {
    Diagnosis(of: domain.xen, dmaBufs: domain.dmaBufs, root: root)
  }

  /// What will work, by its name; nil for what depends on where memory lies.
  private func works(_ diagnosis: Diagnosis) -> [String: Bool?] {
    Dictionary(uniqueKeysWithValues: diagnosis.predictions.map { ($0.name, $0.works) })
  }

  private func finding(_ name: String, _ diagnosis: Diagnosis) -> Diagnosis.Finding? {
    diagnosis.findings.first { $0.name == name }
  }

  private func verdicts(_ diagnosis: Diagnosis) -> [String: Verdict] {
    Dictionary(uniqueKeysWithValues: diagnosis.findings.map { ($0.name, $0.verdict) })
  }

  @Test("finds everything in a PVH dom0")
  func usable() throws {
    let tree = try TemporaryDirectory(Self.files)
    let domain = try SimulatedMachine().addDomain(heaps: ["system", "dmaBufs,cma"])
    let before = domain.census
    let diagnosis = diagnosis(domain, tree.path)
    #expect(diagnosis.canMap)
    #expect(diagnosis.mechanism == .dmabuf)
    #expect(diagnosis.memory == .heap("system"))
    #expect(
      diagnosis.findings.map(\.name) == [
        "xen", "domain", "gntdev", "gntalloc", "evtchn", "xenstore", "grant-table", "udmabuf",
        "dma-heaps", "map-dmabuf", "map-copy", "map-cpu", "share-heap:dmaBufs,cma",
        "share-heap:system", "share-udmabuf", "share-gntalloc", "share-fd", "map", "share",
      ])
    #expect(diagnosis.findings.allSatisfy { $0.verdict != .bad })
    #expect(diagnosis.predictions.allSatisfy { $0.works == true })
    #expect(finding("xen", diagnosis)?.text == "Xen 4.20.1-pre")
    #expect(finding("domain", diagnosis)?.text == "PVH control domain (dom0)")
    #expect(
      finding("gntdev", diagnosis)?.text == "/dev/xen/gntdev opens; at most 65536 pages a buffer")
    #expect(
      finding("gntalloc", diagnosis)?.text
        == "/dev/xen/gntalloc opens; at most 1024 pages in all (4 MiB)")
    #expect(finding("xenstore", diagnosis)?.text == "answers; this is domain 0")
    #expect(
      finding("grant-table", diagnosis)?.text
        == "this domain may grant 32768 pages, and map 262144 of others")
    #expect(finding("udmabuf", diagnosis)?.text == "/dev/udmabuf opens; at most 64 MiB a buffer")
    #expect(finding("dma-heaps", diagnosis)?.text == "dmaBufs,cma, system")
    #expect(finding("map", diagnosis)?.text == "works here, by the mechanism dmabuf")
    #expect(finding("share", diagnosis)?.text == "works here, from heap:system")
    #expect(domain.census(expecting: before) == before)
  }

  @Test("of a PV dom0: it maps by copy and shares from udmabuf, and the rest depends on its memory")
  func pv() throws {
    var files = Self.files
    files["/sys/hypervisor/guest_type"] = "PV\n"
    let tree = try TemporaryDirectory(files)
    let diagnosis = diagnosis(try SimulatedMachine().addDomain(kind: .pv), tree.path)
    #expect(diagnosis.canMap)
    #expect(diagnosis.mechanism == .copy)
    #expect(diagnosis.memory == .udmabuf)
    #expect(
      works(diagnosis) == [
        "map-dmabuf": false, "map-copy": true, "map-cpu": true, "share-heap:system": nil,
        "share-udmabuf": true, "share-gntalloc": true, "share-fd": nil,
      ])
    // That is no fault, since another mechanism works.
    #expect(finding("map-dmabuf", diagnosis)?.verdict == .note)
    #expect(finding("map-dmabuf", diagnosis)?.text.contains("PVH") == true)
    for name in ["share-heap:system", "share-fd"] {
      #expect(finding(name, diagnosis)?.text.contains("udmabuf always can") == true)
      #expect(finding(name, diagnosis)?.verdict == .note)
    }
    #expect(finding("map", diagnosis)?.text == "works here, by the mechanism copy")
    #expect(finding("domain", diagnosis)?.text == "PV control domain (dom0)")
  }

  @Test("of a PV guest: it shares from gntalloc only")
  func pvGuest() throws {
    let tree = try TemporaryDirectory(Self.files)
    let stage = try Stage(guest: .pv)
    let diagnosis = diagnosis(stage.guest, tree.path)
    #expect(diagnosis.memory == .gntalloc)
    #expect(
      works(diagnosis) == [
        "map-dmabuf": false, "map-copy": true, "map-cpu": true, "share-heap:system": false,
        "share-udmabuf": false, "share-gntalloc": true, "share-fd": false,
      ])
    for name in ["share-heap:system", "share-udmabuf", "share-fd"] {
      #expect(finding(name, diagnosis)?.text.contains("PV guest") == true)
    }
  }

  @Test("of a kernel without dma-buf support names the missing options")
  func notBuilt() throws {
    let tree = try TemporaryDirectory(Self.files)
    let diagnosis = diagnosis(try SimulatedMachine().addDomain(hasDmaBuf: false), tree.path)
    #expect(diagnosis.mechanism == .copy)
    #expect(diagnosis.memory == .gntalloc)
    for name in ["map-dmabuf", "share-heap:system", "share-udmabuf", "share-fd"] {
      #expect(finding(name, diagnosis)?.text.contains("CONFIG_XEN_GNTDEV_DMABUF") == true)
      #expect(finding(name, diagnosis)?.verdict == .note)
    }
    #expect(finding("map", diagnosis)?.text == "works here, by the mechanism copy")
  }

  @Test("of a kernel without udmabuf and heaps names the remaining memory")
  func neither() throws {
    let tree = try TemporaryDirectory(Self.files)
    let stock = diagnosis(
      try SimulatedMachine().addDomain(hasDmaBuf: false, hasUdmabuf: false, heaps: []), tree.path)
    #expect(stock.mechanism == .cpu)
    #expect(stock.memory == .gntalloc)
    #expect(finding("map-copy", stock)?.text.contains("module udmabuf is not loaded") == true)
    #expect(finding("dma-heaps", stock)?.text.contains("CONFIG_DMABUF_HEAPS") == true)
    let built = diagnosis(try SimulatedMachine().addDomain(hasUdmabuf: false, heaps: []), tree.path)
    #expect(built.mechanism == .dmabuf)
    // gntdev could grant a dma-buf, but none can be made.
    #expect(built.memory == .gntalloc)
    #expect(works(built)["share-fd"] == true)
    #expect(works(built)["share-udmabuf"] == false)
    #expect(finding("share-udmabuf", built)?.text.contains("module udmabuf") == true)
  }

  @Test("reports why udmabuf does not open, wherever it would be used")
  func udmabufWithoutRights() throws {
    let tree = try TemporaryDirectory(Self.files)
    let diagnosis = diagnosis(
      try SimulatedMachine().addDomain(mayOpenUdmabuf: false, heaps: []), tree.path)
    for name in ["udmabuf", "map-copy", "share-udmabuf"] {
      #expect(
        finding(name, diagnosis)?.text == "/dev/udmabuf does not open: \(Errno.permissionDenied)")
    }
    #expect(works(diagnosis)["share-udmabuf"] == false)
    #expect(diagnosis.memory == .gntalloc)
  }

  @Test("recognises a guest")
  func guest() throws {
    var files = Self.files
    files["/proc/xen/capabilities"] = ""
    files["/sys/hypervisor/guest_type"] = nil
    let tree = try TemporaryDirectory(files)
    let stage = try Stage()
    let diagnosis = diagnosis(stage.guest, tree.path)
    #expect(finding("domain", diagnosis)?.text == "type unknown guest")
    #expect(finding("xenstore", diagnosis)?.text == "answers; this is domain 1")
  }

  @Test("of a system without Xen finds nothing, and reports each missing part")
  func noXen() throws {
    let tree = try TemporaryDirectory()
    let domain = try SimulatedMachine().addDomain(hasUdmabuf: false, heaps: [])
    let diagnosis = Diagnosis(of: Xen(NoXen()), dmaBufs: domain.dmaBufs, root: tree.path)
    #expect(!diagnosis.canMap)
    #expect(diagnosis.memory == nil)
    #expect(diagnosis.predictions.allSatisfy { $0.works == false })
    #expect(
      verdicts(diagnosis) == [
        "xen": .bad, "gntdev": .bad, "gntalloc": .note, "evtchn": .bad, "xenstore": .bad,
        "udmabuf": .note, "dma-heaps": .note, "map-dmabuf": .note, "map-copy": .note,
        "map-cpu": .note, "share-udmabuf": .note, "share-gntalloc": .note, "share-fd": .note,
        "map": .bad, "share": .note,
      ])
    #expect(finding("gntdev", diagnosis)?.text.contains("module xen-gntdev") == true)
    #expect(finding("evtchn", diagnosis)?.text.contains("module xen-evtchn") == true)
    #expect(finding("udmabuf", diagnosis)?.text.contains("no /dev/udmabuf") == true)
    #expect(finding("dma-heaps", diagnosis)?.text.contains("CONFIG_DMABUF_HEAPS") == true)
    #expect(finding("map", diagnosis)?.text == "does not work here")
    #expect(
      finding("map-dmabuf", diagnosis)?.text == "there is no usable /dev/xen/gntdev")
  }

  @Test("of a user without rights includes advice")
  func noRights() throws {
    let tree = try TemporaryDirectory(Self.files)
    let diagnosis = Diagnosis(of: Xen(NoXen(errno: .permissionDenied)), root: tree.path)
    #expect(!diagnosis.canMap)
    for name in ["gntdev", "gntalloc", "evtchn", "xenstore"] {
      #expect(finding(name, diagnosis)?.text.contains("run it as root") == true)
    }
  }

  @Test("works without limits that the kernel does not report")
  func unknownLimits() throws {
    let tree = try TemporaryDirectory(["/sys/hypervisor/type": "xen"])
    let diagnosis = diagnosis(try SimulatedMachine().addDomain(), tree.path)
    #expect(diagnosis.canMap)
    #expect(finding("xen", diagnosis)?.text == "Xen ?.?")
    #expect(finding("gntdev", diagnosis)?.text.hasSuffix("limit unknown") == true)
    #expect(finding("gntalloc", diagnosis)?.text.hasSuffix("limit unknown") == true)
  }

  @Test("has one line for each finding")
  func lines() throws {
    let tree = try TemporaryDirectory(Self.files)
    let xens = [
      try SimulatedMachine().addDomain().xen, try SimulatedMachine().addDomain(kind: .pv).xen,
      Xen(NoXen()),
    ]
    for xen in xens {
      for finding in Diagnosis(of: xen, root: tree.path).findings {
        #expect(!finding.text.isEmpty && !finding.text.contains("\n"))
      }
    }
  }
}
