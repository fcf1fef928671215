public import DmaBuf
import SystemPackage
public import XenGrant

/// What this domain can do with shared buffers, and why not where it cannot.
public struct Diagnosis: Sendable {
  /// One item that was checked.
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

  /// Something that `map` or `share` can be asked to do, and whether it will work.
  public struct Prediction: Equatable, Sendable {
    /// What: `map-` and a mechanism, or `share-` and a source of memory.
    public let name: String
    /// Whether it works here; nil where that depends on where memory lies.
    public let works: Bool?
    /// Why not, or what is to be known about it.
    public let text: String
  }

  /// All items that were checked, in reading order.
  public let findings: [Finding]
  /// What will work here, and what not.
  public let predictions: [Prediction]
  /// The mechanism that `map` chooses by itself, or nil if none works here.
  public let mechanism: Mechanism?
  /// The memory that `share` chooses by itself, or nil if none can be shared.
  public let memory: MemorySource?
  /// Whether `map` works here.
  public var canMap: Bool { mechanism != nil }

  /// Checks this domain. Nothing is changed by it.
  ///
  /// - Parameters:
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: this domain's memory for devices.
  ///   - root: goes before each path of /sys and /proc that is read; empty but in tests.
  public init(of xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(), root: String = "") {
    var findings: [Finding] = []
    func add(_ name: String, _ verdict: Finding.Verdict, _ text: String) {
      findings.append(Finding(name: name, verdict: verdict, text: text))
    }

    let underXen = Files.trimmedText(of: "\(root)/sys/hypervisor/type") == "xen"
    add("xen", underXen ? .good : .bad, Self.xenVersion(root, underXen: underXen))
    if underXen { add("domain", .note, Self.domain(root)) }

    var export: DmaBufSupport?
    do throws(XenError) {
      let device = try xen.openGrantDevice()
      let limit =
        Files.number(in: "\(root)\(GrantDeviceLimit.path)")
        .map { "at most \($0) pages a buffer" } ?? "limit unknown"
      add("gntdev", .good, "/dev/xen/gntdev opens; \(limit)")
      export = device.exportSupport()
    } catch {
      add("gntdev", .bad, "\(error)")
    }
    do throws(XenError) {
      _ = try xen.openGrantAllocator()
      let limit =
        Files.number(in: "\(root)/sys/module/xen_gntalloc/parameters/limit")
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
    if let limits = xen.grantLimits() {
      add(
        "grant-table", .note,
        "this domain may grant \(limits.grantFrames * 512) pages, and map \(limits.maptrackFrames * 256) of others"
      )
    }
    let sharing = SharingSupport(xen: xen, dmaBufs: dmaBufs)
    let udmabuf = sharing.udmabufObstacle
    add("udmabuf", .note, Self.text(udmabuf: udmabuf, limit: dmaBufs.udmabufLimit))
    add(
      "dma-heaps", .note,
      sharing.heaps.isEmpty
        ? "none: CONFIG_DMABUF_HEAPS is not built" : sharing.heaps.joined(separator: ", "))

    let mapping = Self.mapping(export, udmabuf)
    predictions = mapping + Self.sharing(sharing)
    for prediction in predictions {
      add(prediction.name, prediction.works == true ? .good : .note, prediction.text)
    }
    mechanism = zip(Mechanism.allCases, mapping).first { $0.1.works == true }?.0
    memory = sharing.works(sharing.best) == true ? sharing.best : nil
    add(
      "map", mechanism == nil ? .bad : .good,
      mechanism.map { "works here, by the mechanism \($0.rawValue)" } ?? "does not work here")
    add(
      "share", memory == nil ? .note : .good,
      memory.map { "works here, from \($0)" } ?? "does not work here")
    self.findings = findings
  }

  /// What becomes of each mechanism, in the order of ``Mechanism``.
  private static func mapping(_ export: DmaBufSupport?, _ udmabuf: Errno?) -> [Prediction] {
    Mechanism.allCases.map { mechanism in
      let name = "map-\(mechanism.rawValue)"
      guard let export else {
        return Prediction(
          name: name, works: false, text: "there is no usable /dev/xen/gntdev")
      }
      switch mechanism {
      case .dmabuf:
        return Prediction(
          name: name, works: export == .usable,
          text: export == .usable
            ? "another domain's pages become a dma-buf with no copy" : export.obstacle)
      case .copy:
        return Prediction(
          name: name, works: udmabuf == nil,
          text: udmabuf == nil
            ? "another domain's pages are copied into a dma-buf, one grant copy a frame"
            : text(udmabuf: udmabuf, limit: nil))
      case .cpu:
        return Prediction(
          name: name, works: true, text: "the processor maps another domain's pages; no dma-buf")
      }
    }
  }

  /// What becomes of each source of memory.
  private static func sharing(_ support: SharingSupport) -> [Prediction] {
    let named = support.heaps.map { MemorySource.heap($0) } + [.udmabuf, .gntalloc]
    var predictions = named.map { source in
      Prediction(
        name: "share-\(source)", works: support.works(source), text: text(source, support))
    }
    // Any number stands for what may be inherited.
    let inherited = MemorySource.fileDescriptor(.standardInput)
    predictions.append(
      Prediction(
        name: "share-fd", works: support.works(inherited), text: text(inherited, support)))
    return predictions
  }

  private static func text(_ source: MemorySource, _ support: SharingSupport) -> String {
    let what =
      switch source {
      case .fileDescriptor: "a dma-buf of any exporter"
      default: "memory of \(source)"
      }
    return switch support.works(source) {
    case true?: "\(what) can be granted"
    case nil:
      "\(what) can be granted where it lies together in the machine, and is refused where not; udmabuf always can"
    case false?: obstacle(source, support)
    }
  }

  private static func obstacle(_ source: MemorySource, _ support: SharingSupport) -> String {
    switch source {
    case .gntalloc: "there is no usable /dev/xen/gntalloc"
    case .udmabuf where support.obstacle == nil: text(udmabuf: support.udmabufObstacle, limit: nil)
    default: support.obstacle.map { "\($0)" } ?? "it cannot be granted"
    }
  }

  private static func text(udmabuf errno: Errno?, limit: Int?) -> String {
    switch errno {
    case nil:
      "/dev/udmabuf opens" + (limit.map { "; at most \($0 >> 20) MiB a buffer" } ?? "")
    case .noSuchFileOrDirectory:
      "no /dev/udmabuf: the module udmabuf is not loaded or not built (CONFIG_UDMABUF)"
    case let errno?: "/dev/udmabuf does not open: \(errno)"
    }
  }

  private static func xenVersion(_ root: String, underXen: Bool) -> String {
    guard underXen else {
      return
        "this system does not run on Xen, or its kernel does not report it (/sys/hypervisor/type)"
    }
    let version = "\(root)/sys/hypervisor/version"
    let major = Files.trimmedText(of: "\(version)/major") ?? "?"
    let minor = Files.trimmedText(of: "\(version)/minor") ?? "?"
    return "Xen \(major).\(minor)\(Files.trimmedText(of: "\(version)/extra") ?? "")"
  }

  private static func domain(_ root: String) -> String {
    let type = Files.trimmedText(of: "\(root)/sys/hypervisor/guest_type") ?? "type unknown"
    let capabilities = Files.trimmedText(of: "\(root)/proc/xen/capabilities") ?? ""
    let isControl = capabilities.split(separator: "\n").contains("control_d")
    return isControl ? "\(type) control domain (dom0)" : "\(type) guest"
  }
}
