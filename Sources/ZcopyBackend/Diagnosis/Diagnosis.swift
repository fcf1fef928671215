public import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// What this domain can do with shared buffers, and why not where it cannot.
public struct Diagnosis: Sendable {
  /// One thing that was looked at.
  public struct Finding: Equatable, Sendable {
    /// Whether it is as mapping or sharing needs it.
    public enum Verdict: String, Sendable {
      /// It is there and works.
      case good
      /// It is missing, and something does not work without it.
      case bad
      /// It is as it is.
      case note
    }
    /// A short name, for instance `gntdev`.
    public let name: String
    /// Whether it is as it should be.
    public let verdict: Verdict
    /// What was found, and what to do about it.
    public let text: String
  }

  /// Everything that was looked at, in an order to read.
  public let findings: [Finding]
  /// Whether `map` works here.
  public let canMap: Bool

  /// Looks at this domain. Nothing is changed by it.
  ///
  /// - Parameters:
  ///   - xen: this domain's Xen.
  ///   - root: goes before each path of /sys, /proc and /dev that is read; empty but in tests.
  public init(of xen: Xen, root: String = "") {
    var findings: [Finding] = []
    func add(_ name: String, _ verdict: Finding.Verdict, _ text: String) {
      findings.append(Finding(name: name, verdict: verdict, text: text))
    }

    let underXen = TextFile.read("\(root)/sys/hypervisor/type") == "xen"
    add("xen", underXen ? .good : .bad, Self.xenVersion(root, underXen: underXen))
    if underXen { add("domain", .note, Self.domain(root)) }

    var export: DmaBufSupport?
    do throws(XenError) {
      let device = try xen.openGrantDevice()
      let limit =
        TextFile.read("\(root)\(GrantDeviceLimit.path)").flatMap { Int($0) }
        .map { "at most \($0) pages a buffer" } ?? "limit unknown"
      add("gntdev", .good, "/dev/xen/gntdev opens; \(limit)")
      let support = device.exportSupport()
      export = support
      add("map-dmabuf", support == .usable ? .good : .bad, Self.text(support))
      let imports = device.importSupport()
      add(
        "share-dmabuf", imports == .usable ? .good : .note,
        imports == .usable
          ? "gntdev can grant the pages of a dma-buf"
          : "gntdev cannot grant the pages of a dma-buf: the kernel was built without CONFIG_XEN_GNTDEV_DMABUF"
      )
    } catch {
      add("gntdev", .bad, "\(error)")
    }
    do throws(XenError) {
      _ = try xen.openGrantAllocator()
      let limit =
        TextFile.read("\(root)/sys/module/xen_gntalloc/parameters/limit").flatMap { Int($0) }
        .map { "at most \($0) pages in all (\($0 / 256) MiB)" } ?? "limit unknown"
      add("gntalloc", .good, "/dev/xen/gntalloc opens; \(limit)")
    } catch {
      add("gntalloc", .note, "no memory can be shared out by gntalloc: \(error)")
    }
    do throws(XenError) {
      _ = try xen.openEventChannels()
      add("evtchn", .good, "/dev/xen/evtchn opens")
    } catch {
      add("evtchn", .bad, "\(error)")
    }
    do throws(XenError) {
      let store = try xen.openStore()
      add("xenstore", .good, "answers; this is domain \(try store.ownDomain())")
    } catch {
      add("xenstore", .bad, "\(error)")
    }
    // SAFETY: the string lives for the call.
    let udmabuf = unsafe access("\(root)/dev/udmabuf", F_OK) == 0
    add(
      "udmabuf", .note,
      udmabuf
        ? "/dev/udmabuf is there" : "no /dev/udmabuf: the module udmabuf is not loaded or not built"
    )
    let heaps = DirectoryListing.names("\(root)/dev/dma_heap").sorted()
    add(
      "dma-heaps", .note,
      heaps.isEmpty ? "none: CONFIG_DMABUF_HEAPS is not built" : heaps.joined(separator: ", "))

    canMap = export == .usable
    add(
      "map", canMap ? .good : .bad,
      canMap
        ? "works here, by the mechanism dmabuf: a guest's pages become a dma-buf with no copy"
        : "does not work here: \(Self.obstacle(export))")
    self.findings = findings
  }

  private static func xenVersion(_ root: String, underXen: Bool) -> String {
    guard underXen else {
      return "this system does not run on Xen, or its kernel does not tell (/sys/hypervisor/type)"
    }
    let version = "\(root)/sys/hypervisor/version"
    let major = TextFile.read("\(version)/major") ?? "?"
    let minor = TextFile.read("\(version)/minor") ?? "?"
    return "Xen \(major).\(minor)\(TextFile.read("\(version)/extra") ?? "")"
  }

  private static func domain(_ root: String) -> String {
    let type = TextFile.read("\(root)/sys/hypervisor/guest_type") ?? "type unknown"
    let capabilities = TextFile.read("\(root)/proc/xen/capabilities") ?? ""
    return capabilities.contains("control_d") ? "\(type) control domain (dom0)" : "\(type) guest"
  }

  private static func text(_ support: DmaBufSupport) -> String {
    switch support {
    case .usable: "gntdev can make a dma-buf of another domain's pages"
    case .refusedInPVDomain:
      "gntdev makes no dma-buf of another domain's pages in a PV domain; a PVH dom0 or driver domain can"
    case .notBuilt:
      "gntdev cannot make a dma-buf of another domain's pages: the kernel was built without "
        + "CONFIG_XEN_GNTDEV_DMABUF; see kernel/README.md"
    }
  }

  private static func obstacle(_ export: DmaBufSupport?) -> String {
    switch export {
    case .usable: "nothing"
    case .refusedInPVDomain: "this is a PV domain"
    case .notBuilt: "this kernel's gntdev has no dma-buf support"
    case nil: "there is no usable /dev/xen/gntdev"
    }
  }
}

/// The names in a directory.
enum DirectoryListing {
  /// The names, without `.` and `..`; none if the directory cannot be read.
  static func names(_ path: String) -> [String] {
    // SAFETY: the stream is closed before it goes, and each entry is read before the next is asked for.
    guard let stream = unsafe opendir(path) else { return [] }
    defer { unsafe _ = closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
