import SystemPackage
import Testing
import XenGrant
import XenSimulator

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
    "/sys/module/xen_gntalloc/parameters/limit": "1024\n", "/dev/udmabuf": "",
    "/dev/dma_heap/system": "", "/dev/dma_heap/linux,cma": "",
  ]

  private func finding(_ name: String, _ diagnosis: Diagnosis) -> Diagnosis.Finding? {
    diagnosis.findings.first { $0.name == name }
  }

  private func verdicts(_ diagnosis: Diagnosis) -> [String: Verdict] {
    Dictionary(uniqueKeysWithValues: diagnosis.findings.map { ($0.name, $0.verdict) })
  }

  @Test("finds all that is there in a PVH dom0")
  func usable() throws {
    let tree = try FileTree(Self.files)
    let domain = try SimulatedMachine().addDomain()
    let before = domain.census
    let diagnosis = Diagnosis(of: domain.xen, root: tree.root)
    #expect(diagnosis.canMap)
    #expect(
      diagnosis.findings.map(\.name) == [
        "xen", "domain", "gntdev", "map-dmabuf", "share-dmabuf", "gntalloc", "evtchn", "xenstore",
        "udmabuf", "dma-heaps", "map",
      ])
    #expect(diagnosis.findings.allSatisfy { $0.verdict != .bad })
    #expect(finding("xen", diagnosis)?.text == "Xen 4.20.1-pre")
    #expect(finding("domain", diagnosis)?.text == "PVH control domain (dom0)")
    #expect(
      finding("gntdev", diagnosis)?.text == "/dev/xen/gntdev opens; at most 65536 pages a buffer")
    #expect(
      finding("gntalloc", diagnosis)?.text
        == "/dev/xen/gntalloc opens; at most 1024 pages in all (4 MiB)")
    #expect(finding("xenstore", diagnosis)?.text == "answers; this is domain 0")
    #expect(finding("udmabuf", diagnosis)?.text == "/dev/udmabuf is there")
    #expect(finding("dma-heaps", diagnosis)?.text == "linux,cma, system")
    #expect(finding("map", diagnosis)?.text.hasPrefix("works here") == true)
    #expect(domain.census == before)
  }

  @Test("says of a PV domain that it cannot map, and what can")
  func pv() throws {
    var files = Self.files
    files["/sys/hypervisor/guest_type"] = "PV\n"
    let tree = try FileTree(files)
    let diagnosis = Diagnosis(
      of: try SimulatedMachine().addDomain(kind: .pv).xen, root: tree.root)
    #expect(!diagnosis.canMap)
    #expect(finding("map-dmabuf", diagnosis)?.verdict == .bad)
    #expect(finding("map-dmabuf", diagnosis)?.text.contains("PVH") == true)
    #expect(finding("share-dmabuf", diagnosis)?.verdict == .good)
    #expect(finding("map", diagnosis)?.verdict == .bad)
    #expect(finding("map", diagnosis)?.text == "does not work here: this is a PV domain")
    #expect(finding("domain", diagnosis)?.text == "PV control domain (dom0)")
  }

  @Test("says of a kernel without dma-buf support what it was built without")
  func notBuilt() throws {
    let tree = try FileTree(Self.files)
    let diagnosis = Diagnosis(
      of: try SimulatedMachine().addDomain(hasDmaBuf: false).xen, root: tree.root)
    #expect(!diagnosis.canMap)
    for name in ["map-dmabuf", "share-dmabuf"] {
      #expect(finding(name, diagnosis)?.text.contains("CONFIG_XEN_GNTDEV_DMABUF") == true)
    }
    #expect(finding("map-dmabuf", diagnosis)?.verdict == .bad)
    #expect(finding("share-dmabuf", diagnosis)?.verdict == .note)
    #expect(
      finding("map", diagnosis)?.text
        == "does not work here: this kernel's gntdev has no dma-buf support")
  }

  @Test("names a guest a guest")
  func guest() throws {
    var files = Self.files
    files["/proc/xen/capabilities"] = ""
    files["/sys/hypervisor/guest_type"] = nil
    let tree = try FileTree(files)
    let pair = try Pair()
    let diagnosis = Diagnosis(of: pair.guest.xen, root: tree.root)
    #expect(finding("domain", diagnosis)?.text == "type unknown guest")
    #expect(finding("xenstore", diagnosis)?.text == "answers; this is domain 1")
  }

  @Test("of a system without Xen finds nothing, and says of each what is missing")
  func noXen() throws {
    let tree = try FileTree()
    let diagnosis = Diagnosis(of: Xen(NoXen()), root: tree.root)
    #expect(!diagnosis.canMap)
    #expect(
      verdicts(diagnosis) == [
        "xen": .bad, "gntdev": .bad, "gntalloc": .note, "evtchn": .bad, "xenstore": .bad,
        "udmabuf": .note, "dma-heaps": .note, "map": .bad,
      ])
    #expect(finding("gntdev", diagnosis)?.text.contains("module xen-gntdev") == true)
    #expect(finding("evtchn", diagnosis)?.text.contains("module xen-evtchn") == true)
    #expect(finding("udmabuf", diagnosis)?.text.contains("no /dev/udmabuf") == true)
    #expect(finding("dma-heaps", diagnosis)?.text.contains("CONFIG_DMABUF_HEAPS") == true)
    #expect(
      finding("map", diagnosis)?.text == "does not work here: there is no usable /dev/xen/gntdev")
  }

  @Test("of a user without rights says what to do")
  func noRights() throws {
    let tree = try FileTree(Self.files)
    let diagnosis = Diagnosis(of: Xen(NoXen(errno: .permissionDenied)), root: tree.root)
    #expect(!diagnosis.canMap)
    for name in ["gntdev", "gntalloc", "evtchn", "xenstore"] {
      #expect(finding(name, diagnosis)?.text.contains("run it as root") == true)
    }
  }

  @Test("does without what the kernel does not tell")
  func unknownLimits() throws {
    let tree = try FileTree(["/sys/hypervisor/type": "xen"])
    let diagnosis = Diagnosis(of: try SimulatedMachine().addDomain().xen, root: tree.root)
    #expect(diagnosis.canMap)
    #expect(finding("xen", diagnosis)?.text == "Xen ?.?")
    #expect(finding("gntdev", diagnosis)?.text.hasSuffix("limit unknown") == true)
    #expect(finding("gntalloc", diagnosis)?.text.hasSuffix("limit unknown") == true)
  }

  @Test("has one line for each finding")
  func lines() throws {
    let tree = try FileTree(Self.files)
    let xens = [
      try SimulatedMachine().addDomain().xen, try SimulatedMachine().addDomain(kind: .pv).xen,
      Xen(NoXen()),
    ]
    for xen in xens {
      for finding in Diagnosis(of: xen, root: tree.root).findings {
        #expect(!finding.text.isEmpty && !finding.text.contains("\n"))
      }
    }
  }

  @Test("reads little files without the white space at their ends")
  func textFile() throws {
    let tree = try FileTree(["/a": " 4\t\n", "/b": "\n", "/c": ""])
    #expect(TextFile.read("\(tree.root)/a") == "4")
    #expect(TextFile.read("\(tree.root)/b") == "")
    #expect(TextFile.read("\(tree.root)/c") == "")
    #expect(TextFile.read("\(tree.root)/d") == nil)
    #expect(TextFile.read(tree.root) == "")
  }
}
