import CZcopy
public import Pixels
import SystemPackage
public import XenGrant
import Support

/// What the owner of a buffer writes into XenStore for its peer: all that is needed to map it.
///
/// The nodes are named in `xen-zcopy.h`, below `<home>/data/zcopy/<name>`.
public struct Publication: Equatable, Sendable {
  /// The buffer.
  public let request: MapParameters
  /// The grant reference of the control page.
  public let controlPage: GrantReference
  /// The owner's end of the event channel.
  public let port: EventChannelPort

  init(request: MapParameters, controlPage: GrantReference, port: EventChannelPort) {
    self.request = request
    self.controlPage = controlPage
    self.port = port
  }

  /// The path of a publication in its owner's home.
  ///
  /// - Parameter name: 1 to 31 letters, digits, `-` and `_`.
  /// - Returns: the path below the home, or nil if the name has other characters.
  public static func path(for name: String) -> String? {
    guard (1...31).contains(name.utf8.count),
      name.utf8.allSatisfy({
        switch $0 {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
          true
        default: false
        }
      })
    else { return nil }
    return "\(XEN_ZCOPY_NODE_DIRECTORY)/\(name)"
  }

  /// Writes everything at once, readable by the peer only.
  ///
  /// - Parameters:
  ///   - path: the publication's node, below this domain's home or absolute.
  ///   - store: XenStore.
  ///   - owner: this domain.
  ///   - peer: the domain that may read it.
  /// - Throws: `XenError` with EACCES if this domain may not write there, EEXIST if something is
  ///   published there already.
  func write(
    to path: String, in store: borrowing XenStore, owner: DomainID, peer: DomainID
  ) throws(XenError) {
    let nodes = nodes
    let permissions = StorePermissions(owner: owner, domains: [peer: .read])
    try store.transaction { (transaction) throws(XenError) in
      // Another process's publication of that name must not be replaced: its peer may be using it.
      // A killed process has left its own behind, which is replaced.
      if try transaction.readIfPresent("\(path)/\(XEN_ZCOPY_NODE_VERSION)") != nil {
        let process = try transaction.readIfPresent("\(path)/\(XEN_ZCOPY_NODE_PROCESS)")
        guard Self.server(process) == nil else {
          throw XenError(.write, .fileExists, subject: .path(path))
        }
        try transaction.remove(path)
      }
      try transaction.makeDirectory(path)
      try transaction.setPermissions(path, permissions)
      for (name, value) in nodes {
        try transaction.write("\(path)/\(name)", value)
        try transaction.setPermissions("\(path)/\(name)", permissions)
      }
    }
  }

  private var nodes: [(String, String)] {
    var nodes = [
      (XEN_ZCOPY_NODE_VERSION, "\(XEN_ZCOPY_VERSION)"),
      (XEN_ZCOPY_NODE_GRANT_DIRECTORY, "\(request.directory)"),
      (XEN_ZCOPY_NODE_SIZE, "\(request.byteCount)"),
      (XEN_ZCOPY_NODE_OFFSET, "\(request.offset)"),
      (XEN_ZCOPY_NODE_CONTROL, "\(controlPage)"),
      (XEN_ZCOPY_NODE_EVENT_CHANNEL, "\(port)"),
      (XEN_ZCOPY_NODE_PROCESS, Self.ownProcess),
    ]
    if let frame = request.frameByteCount { nodes.append((XEN_ZCOPY_NODE_FRAME_SIZE, "\(frame)")) }
    if let geometry = request.geometry {
      nodes += [
        (XEN_ZCOPY_NODE_WIDTH, "\(geometry.width)"),
        (XEN_ZCOPY_NODE_HEIGHT, "\(geometry.height)"),
        (XEN_ZCOPY_NODE_STRIDE, "\(geometry.stride)"),
        (XEN_ZCOPY_NODE_FORMAT, "\(geometry.format)"),
      ]
    }
    return nodes
  }

  /// Reads what another domain published, in one transaction, and checks it.
  ///
  /// - Parameters:
  ///   - path: the publication: `/local/domain/<N>/data/zcopy/<name>`, or below this domain's own home.
  ///   - store: XenStore.
  /// - Throws: `PublicationError`: it cannot be read, or says something that it may not.
  public init(
    reading path: String, in store: borrowing XenStore
  ) throws(PublicationError) {
    let domain = try Self.owner(of: path, store)
    var values: [String: String] = [:]
    do throws(XenError) {
      values = try store.transaction { (transaction) throws(XenError) in
        var values: [String: String] = [:]
        values[XEN_ZCOPY_NODE_VERSION] = try transaction.read("\(path)/\(XEN_ZCOPY_NODE_VERSION)")
        for name in Self.otherNodes {
          values[name] = try transaction.readIfPresent("\(path)/\(name)")
        }
        return values
      }
    } catch {
      throw .unreadable(error)
    }
    try self.init(values, path: path, domain: domain)
  }

  private static let otherNodes =
    [
      XEN_ZCOPY_NODE_GRANT_DIRECTORY, XEN_ZCOPY_NODE_SIZE, XEN_ZCOPY_NODE_OFFSET,
      XEN_ZCOPY_NODE_FRAME_SIZE, XEN_ZCOPY_NODE_CONTROL, XEN_ZCOPY_NODE_EVENT_CHANNEL,
    ] + pictureNodes

  /// All of them, or none.
  private static let pictureNodes = [
    XEN_ZCOPY_NODE_WIDTH, XEN_ZCOPY_NODE_HEIGHT, XEN_ZCOPY_NODE_STRIDE, XEN_ZCOPY_NODE_FORMAT,
  ]

  /// Checks what stood in the nodes; the domain is known from the path, never from their contents.
  init(
    _ values: [String: String], path: String, domain: DomainID
  ) throws(PublicationError) {
    func malformed(_ name: String) -> PublicationError {
      .malformed(path: path, node: name, value: values[name] ?? "")
    }
    /// The number in a node. `UInt32` refuses white space and overflow, but takes `+1` and `-0`.
    func number(_ name: String) throws(PublicationError) -> UInt32 {
      guard let text = values[name], text.utf8.first.map({ $0 >= UInt8(ascii: "0") }) == true,
        let value = UInt32(text)
      else { throw malformed(name) }
      return value
    }

    guard values[XEN_ZCOPY_NODE_VERSION] == "\(XEN_ZCOPY_VERSION)" else {
      throw .version(path: path, values[XEN_ZCOPY_NODE_VERSION] ?? "")
    }
    guard let port = EventChannelPort(rawValue: try number(XEN_ZCOPY_NODE_EVENT_CHANNEL)) else {
      throw malformed(XEN_ZCOPY_NODE_EVENT_CHANNEL)
    }
    self.port = port
    controlPage = GrantReference(rawValue: try number(XEN_ZCOPY_NODE_CONTROL))
    guard controlPage.rawValue != 0 else { throw malformed(XEN_ZCOPY_NODE_CONTROL) }
    var request = MapParameters(
      domain: domain,
      directory: GrantReference(rawValue: try number(XEN_ZCOPY_NODE_GRANT_DIRECTORY)),
      byteCount: Int(try number(XEN_ZCOPY_NODE_SIZE)),
      offset: values[XEN_ZCOPY_NODE_OFFSET] == nil ? 0 : Int(try number(XEN_ZCOPY_NODE_OFFSET)),
      frameByteCount: values[XEN_ZCOPY_NODE_FRAME_SIZE] == nil
        ? nil : Int(try number(XEN_ZCOPY_NODE_FRAME_SIZE)))
    if Self.pictureNodes.contains(where: { values[$0] != nil }) {
      guard let format = PixelFormat(name: values[XEN_ZCOPY_NODE_FORMAT] ?? "") else {
        throw malformed(XEN_ZCOPY_NODE_FORMAT)
      }
      let width = Int(try number(XEN_ZCOPY_NODE_WIDTH))
      let height = Int(try number(XEN_ZCOPY_NODE_HEIGHT))
      let stride = Int(try number(XEN_ZCOPY_NODE_STRIDE))
      do throws(GeometryError) {
        request.geometry = try PictureGeometry(
          width: width, height: height, format: format, stride: stride)
      } catch {
        throw .geometry(path: path, error)
      }
    }
    self.request = request
  }

  /// The domain in whose home directory a path is. XenStore lets no other domain write there.
  private static func owner(
    of path: String, _ store: borrowing XenStore
  ) throws(PublicationError) -> DomainID {
    guard path.hasPrefix("/") else {
      do throws(XenError) { return try store.ownDomain() } catch { throw .unreadable(error) }
    }
    guard let domain = domain(of: path) else { throw .noOwner(path: path) }
    return domain
  }

  /// The domain in whose home directory an absolute path is; nil if it is in none.
  public static func domain(of path: String) -> DomainID? {
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    // The number as XenStore writes it: `+1` and `01` are other nodes than the home of domain 1.
    guard path.hasPrefix("/"), parts.count > 3, parts[0] == "local", parts[1] == "domain",
      let domain = DomainID(parts[2]), domain.description == parts[2]
    else { return nil }
    return domain
  }
}

/// Why what stands in XenStore is not a buffer that can be mapped.
public enum PublicationError: Error, Equatable, Sendable {
  /// The nodes cannot be read.
  case unreadable(XenError)
  /// The path is in no domain's home.
  case noOwner(path: String)
  /// The owner speaks another version.
  case version(path: String, String)
  /// A node is missing or is no number in its range.
  case malformed(path: String, node: String, value: String)
  /// The published picture is impossible.
  case geometry(path: String, GeometryError)
}

extension PublicationError: CustomStringConvertible {
  /// One line: which node, what stands there, and what should.
  public var description: String {
    switch self {
    case .unreadable(let error): "\(error)"
    case .noOwner(let path):
      "\(path) is in no domain's home: give /local/domain/<N>/\(XEN_ZCOPY_NODE_DIRECTORY)/<name>"
    case .version(let path, let version):
      "\(path) is published as version '\(printable(version))'; this program knows \(XEN_ZCOPY_VERSION)"
    case .malformed(let path, let node, let value):
      "\(path)/\(node) holds '\(printable(value))', which is no valid \(node)"
    case .geometry(let path, let error): "\(path): \(error)"
    }
  }
}
