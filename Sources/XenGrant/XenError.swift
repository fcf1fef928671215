public import SystemPackage

/// A call into Xen that failed: which, on what, and why.
public struct XenError: Error, Hashable, Sendable {
  /// The call that failed, by the name under which it is documented.
  public let call: Call
  /// What the call left in `errno`.
  public let errno: Errno
  /// The other domain that was concerned, if one was.
  public let domain: DomainID?
  /// What in that domain, or in this one, was concerned.
  public let subject: Subject?
  /// Xen's own word, where the call has one for each operation.
  public let status: GrantStatus?

  /// An error with its circumstances.
  public init(
    _ call: Call, _ errno: Errno, domain: DomainID? = nil, subject: Subject? = nil,
    status: GrantStatus? = nil
  ) {
    self.call = call
    self.errno = errno
    self.domain = domain
    self.subject = subject
    self.status = status
  }

  /// The calls of the Xen libraries and of gntdev that can fail.
  public enum Call: String, Sendable, CaseIterable {
    case openGrantDevice = "xengnttab_open"
    case map = "xengnttab_map_domain_grant_refs"
    case mapNotify = "xengnttab_map_grant_ref_notify"
    case unmap = "xengnttab_unmap"
    case copy = "xengnttab_grant_copy"
    case copyTo = "xengnttab_grant_copy (GNTCOPY_dest_gref)"
    case exportDmaBuf = "xengnttab_dmabuf_exp_from_refs"
    case waitReleased = "IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED"
    case importDmaBuf = "xengnttab_dmabuf_imp_to_refs"
    case releaseImport = "IOCTL_GNTDEV_DMABUF_IMP_RELEASE"
    case adoptGrantDevice = "dup3 of gntdev"
    case silence = "IOCTL_GNTDEV_SET_UNMAP_NOTIFY"
    case openGrantAllocator = "xengntshr_open"
    case adoptGrantAllocator = "dup3 of gntalloc"
    case share = "IOCTL_GNTALLOC_ALLOC_GREF"
    case shareNotify = "IOCTL_GNTALLOC_SET_UNMAP_NOTIFY"
    case mapShared = "mmap of gntalloc"
    case unshare = "IOCTL_GNTALLOC_DEALLOC_GREF"
    case openEventChannels = "xenevtchn_open"
    case adoptEventChannels = "dup3 of evtchn"
    case bindUnbound = "xenevtchn_bind_unbound_port"
    case bindInterdomain = "xenevtchn_bind_interdomain"
    case notify = "xenevtchn_notify"
    case pending = "xenevtchn_pending"
    case unmask = "xenevtchn_unmask"
    case unbind = "xenevtchn_unbind"
    case openStore = "xs_open"
    case read = "xs_read"
    case write = "xs_write"
    case makeDirectory = "xs_mkdir"
    case list = "xs_directory"
    case remove = "xs_rm"
    case permissions = "xs_get_permissions"
    case setPermissions = "xs_set_permissions"
    case watch = "xs_watch"
    case unwatch = "xs_unwatch"
    case readWatch = "xs_check_watch"
    case isIntroduced = "xs_is_domain_introduced"
    case startTransaction = "xs_transaction_start"
    case endTransaction = "xs_transaction_end"
  }

  /// What a call was about.
  public enum Subject: Hashable, Sendable {
    case reference(GrantReference)
    case references(count: Int)
    case pages(Int)
    case port(EventChannelPort)
    case path(String)
    case fileDescriptor(Int32)
  }
}

extension XenError: CustomStringConvertible {
  /// One line: what failed, for which domain and reference, why, and what to do where that is known.
  public var description: String {
    var line = "cannot \(call.action)"
    if let subject { line += " \(subject)" }
    if let domain { line += " \(call.preposition) domain \(domain)" }
    line += ": "
    if let status, status != .okay {
      line += "\(status)"
    } else {
      line += "\(errno) (\(errno.symbol) from \(call.rawValue))"
    }
    if let advice = call.advice(for: errno) { line += "; \(advice)" }
    return line
  }
}

extension XenError.Subject: CustomStringConvertible {
  /// The kind of thing and its number or path.
  public var description: String {
    switch self {
    case .reference(let reference): "grant reference \(reference)"
    case .references(let count): count == 1 ? "1 grant reference" : "\(count) grant references"
    case .pages(let count): count == 1 ? "1 page" : "\(count) pages"
    case .port(let port): "event channel \(port)"
    case .path(let path): path
    case .fileDescriptor(let number): "file descriptor \(number)"
    }
  }
}

extension XenError.Call {
  /// The call in words that follow "cannot".
  fileprivate var action: String {
    switch self {
    case .openGrantDevice: "open /dev/xen/gntdev"
    case .map, .mapNotify: "map"
    case .unmap: "unmap"
    case .copy: "copy from"
    case .copyTo: "copy to"
    case .exportDmaBuf: "make a dma-buf of"
    case .waitReleased: "ask whether the kernel has released the dma-buf of"
    case .importDmaBuf: "grant the pages of the dma-buf behind"
    case .releaseImport: "withdraw the grants of the dma-buf behind"
    case .adoptGrantDevice: "take over /dev/xen/gntdev by"
    case .silence: "end the notification of what is mapped by"
    case .openGrantAllocator: "open /dev/xen/gntalloc"
    case .adoptGrantAllocator: "take over /dev/xen/gntalloc by"
    case .mapShared: "continue to share"
    case .share, .shareNotify: "share"
    case .unshare: "stop sharing"
    case .openEventChannels: "open /dev/xen/evtchn"
    case .adoptEventChannels: "take over /dev/xen/evtchn by"
    case .bindUnbound: "open an event channel"
    case .bindInterdomain: "connect to"
    case .notify: "notify"
    case .pending: "read pending event channels"
    case .unmask: "unmask"
    case .unbind: "close"
    case .openStore: "connect to XenStore"
    case .read: "read XenStore node"
    case .write: "write XenStore node"
    case .makeDirectory: "make XenStore node"
    case .list: "list XenStore node"
    case .remove: "remove XenStore node"
    case .permissions: "read the permissions of XenStore node"
    case .setPermissions: "set the permissions of XenStore node"
    case .watch: "watch XenStore node"
    case .unwatch: "stop watching XenStore node"
    case .readWatch: "read XenStore watches"
    case .isIntroduced: "ask XenStore about the end"
    case .startTransaction: "start a XenStore transaction"
    case .endTransaction: "commit a XenStore transaction"
    }
  }

  /// How the domain is joined to the action.
  fileprivate var preposition: String {
    switch self {
    case .share, .shareNotify, .mapShared, .bindUnbound: "with"
    case .importDmaBuf: "to"
    default: "of"
    }
  }

  /// What usually helps against that errno from this call.
  fileprivate func advice(for errno: Errno) -> String? {
    switch (self, errno) {
    case (.openGrantDevice, .noSuchFileOrDirectory), (.adoptGrantDevice, .noSuchFileOrDirectory):
      "is this a Xen domain with the module xen-gntdev loaded?"
    case (.openGrantAllocator, .noSuchFileOrDirectory),
      (.adoptGrantAllocator, .noSuchFileOrDirectory):
      "is this a Xen domain with the module xen-gntalloc loaded?"
    case (.openEventChannels, .noSuchFileOrDirectory),
      (.adoptEventChannels, .noSuchFileOrDirectory):
      "is this a Xen domain with the module xen-evtchn loaded?"
    case (.openStore, .noSuchFileOrDirectory), (.openStore, .connectionRefused):
      "is this a Xen domain, and does xenstored run (in dom0) or xenfs answer (elsewhere)?"
    case (.openGrantDevice, .permissionDenied), (.openGrantAllocator, .permissionDenied),
      (.openEventChannels, .permissionDenied), (.openStore, .permissionDenied):
      "run it as root or give this user access to the device"
    case (.adoptGrantDevice, .invalidArgument), (.adoptGrantAllocator, .invalidArgument),
      (.adoptEventChannels, .invalidArgument):
      "it is another file than the one that was handed over"
    case (.map, .invalidArgument), (.mapNotify, .invalidArgument):
      "the references must be granted to this domain, writable if they are to be written"
    case (.map, .notSupportedOnSocket), (.mapNotify, .notSupportedOnSocket),
      (.exportDmaBuf, .notSupportedOnSocket):
      "it is this domain itself, which would lose its own pages: Xen moves a page that a PVH or HVM domain maps from itself"
    case (.exportDmaBuf, .invalidArgument):
      "each reference must be granted to this domain and writable, and no more of them than gntdev's limit"
    case (.exportDmaBuf, .inappropriateIOCTLForDevice),
      (.importDmaBuf, .inappropriateIOCTLForDevice):
      "this kernel's xen-gntdev has no dma-buf support (CONFIG_XEN_GNTDEV_DMABUF); see kernel/README.md"
    case (.importDmaBuf, .invalidArgument):
      "it must be a dma-buf whose memory begins at a page and has pages (a graphics card's own has none), no more than "
        + "gntdev's limit"
    case (.importDmaBuf, .ioError):
      "its memory does not lie together in the machine, as a PV domain needs it; use memory of udmabuf"
    case (.importDmaBuf, .noSpace): "raise the domain's max_grant_frames"
    case (.copyTo, .ioError): "the other domain must have granted it writable"
    case (.share, .noSpace), (.shareNotify, .noSpace):
      "raise /sys/module/xen_gntalloc/parameters/limit or the domain's max_grant_frames"
    case (.map, .noMemory), (.exportDmaBuf, .noMemory):
      "this domain has no room for so many foreign pages"
    case (.bindInterdomain, .invalidArgument):
      "the other side has closed it, or another program is connected to it"
    case (.bindInterdomain, .noSuchProcess): "that domain is gone"
    case (.write, .fileExists):
      "a running process publishes there; choose another name or end it"
    case (.read, .noSuchFileOrDirectory): "nothing is published there"
    case (.read, .permissionDenied), (.list, .permissionDenied):
      "its owner has not made it readable for this domain"
    default: nil
    }
  }
}
