import ArgumentParser
import DmaBuf
import Picture
import Pixels
import SystemPackage
import XenGrant
import ZcopyBackend

/// `xen-zcopy map`.
struct MapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map",
    abstract: "Turn another domain's buffer into a dma-buf.",
    discussion: """
      With --dump, --verify, --draw or --exec alone it exits when that is done; otherwise it holds the buffer until SIGINT or \
      SIGTERM, or until the owner goes. At the end it closes the buffer, waits until the kernel has released the pages, \
      and notifies the owner.

      Where xen-zcopyd runs, the daemon maps the buffer, and `xen-zcopy list` shows it; this user needs no device of Xen \
      then, except for --offer-directory. Without it, and with --direct, this process does it, for which it must be root. \
      All options work the same both ways.

        xen-zcopy map --from /local/domain/1/data/zcopy/screen --dump screen.png
        xen-zcopy map --domain 1 --directory 812 --size 8100K --exec my-backend
        xen-zcopy map --from /local/domain/0/data/zcopy/canvas --draw smpte
        xen-zcopy map --from /local/domain/1/data/zcopy/screen --persistent
      """)

  @Option(
    help: ArgumentHelp(
      "Take everything from what `share --publish` wrote.", valueName: "xenstore-path"))
  var from: String?

  @Option(help: "The domain whose buffer it is: its number or name.")
  var domain: DomainName?

  @Option(help: ArgumentHelp("The first page of its grant directory.", valueName: "reference"))
  var directory: GrantReference?

  @Flag(
    help: ArgumentHelp(
      "Offer an empty directory, and map what the domain lists there (backend-allocated mode).",
      discussion: "In place of --directory; the other side runs `share --into-directory`."))
  var offerDirectory = false

  @Option(
    help: ArgumentHelp(
      "How to map: dmabuf (no copy), copy (a dma-buf that is refreshed by grant copy), cpu (no dma-buf), or auto.",
      valueName: "mechanism"))
  var mechanism: MechanismChoice = .automatic

  @Option(help: "The buffer's size, for instance 8294400, 8100K or 8M.")
  var size: ByteSize?

  @Option(help: ArgumentHelp("Bytes before the data.", valueName: "bytes"))
  var offset: ByteSize?

  @OptionGroup(title: "Picture") var picture: GeometryOptions

  @Option(help: "Name the dma-buf, for /proc/*/fdinfo (at most 31 bytes).")
  var name: String?

  @Option(
    help: ArgumentHelp(
      "Write the contents to a file, as a picture if it ends in .png, else raw. - is standard output.",
      valueName: "file"),
    completion: .file())
  var dump: String?

  @Option(
    help: ArgumentHelp(
      "Compare the contents with a test pattern: smpte or counting.", valueName: "pattern"))
  var verify: TestPattern?

  @Option(
    help: ArgumentHelp(
      "Draw into the buffer: a test pattern (smpte or counting), or a PNG file.",
      valueName: "pattern|file.png"),
    completion: .file())
  var draw: String?

  @Flag(help: "Continue with each frame that the owner announces (with --from).")
  var follow = false

  @Option(
    help: ArgumentHelp(
      "The largest buffer that is accepted (default: 64M; xen-zcopyd has limits of its own).",
      valueName: "size"))
  var maxSize: ByteSize?

  @Option(
    help: ArgumentHelp(
      "How long to wait for the kernel's release at the end.", valueName: "seconds"))
  var releaseTimeout: Int = 10

  @Option(
    parsing: .remaining,
    help: ArgumentHelp(
      "Run a program with the dma-buf inherited and its number in ZCOPY_FD. Takes the rest of the line.",
      valueName: "command"))
  var exec: [String] = []

  @OptionGroup var route: RouteOptions

  @OptionGroup var common: CommonOptions

  func validate() throws {
    try route.validate(holding: exec.isEmpty && !follow)
    if from != nil {
      guard domain == nil, directory == nil, size == nil, offset == nil, !offerDirectory else {
        throw ValidationError("--from has the domain, directory, size and offset: leave them out")
      }
    } else {
      guard domain != nil, (directory != nil) != offerDirectory, size != nil else {
        throw ValidationError(
          "give --from, or --domain and --size with --directory or --offer-directory")
      }
      guard !follow else {
        throw ValidationError("--follow needs --from: frames are announced there")
      }
    }
    guard (0...3600).contains(releaseTimeout) else {
      throw ValidationError("--release-timeout takes 0 to 3600 seconds")
    }
    if let draw, TestPattern(name: draw) == nil, !draw.lowercased().hasSuffix(".png") {
      throw ValidationError("--draw takes smpte, counting, or a file that ends in .png")
    }
    if from == nil, let draw, draw.lowercased().hasSuffix(".png"), picture.width == nil {
      throw ValidationError("a picture needs --width and --height")
    }
    guard mechanism != .only(.cpu) || exec.isEmpty else {
      throw ValidationError("--exec needs a dma-buf, which the mechanism cpu does not make")
    }
    guard name?.utf8.count ?? 0 <= 31 else {
      throw ValidationError("--name takes at most 31 bytes")
    }
    if from == nil, let dump, dump.lowercased().hasSuffix(".png"), picture.width == nil {
      throw ValidationError("a picture needs --width and --height; or dump to a name without .png")
    }
  }

  /// The output for reports: standard output may be used by the contents.
  private var output: Output {
    var output = common.output
    if dump == "-" { output.file = .standardError }
    return output
  }

  func run() throws {
    try withFailures {
      let xen = Xen(SystemPlatform(logger: common.logger))
      let daemon = try route.daemon(for: "map a buffer")
      let plan = MapSession.Plan(
        request: MapRequest(
          source: try source(xen), name: name ?? defaultName,
          mechanisms: mechanism.list(needsDmaBuf: !exec.isEmpty), byteLimit: maxSize?.bytes),
        geometry: try picture.geometry(), contents: ContentsWriter(path: dump, pattern: verify),
        drawing: draw.map(drawing), follows: follow, program: exec,
        isPersistent: route.persistent, releaseTimeout: .seconds(releaseTimeout))
      try MapSession(plan, output: output) { loop in
        try route.host(daemon, xen: xen, loop: loop, logger: common.logger)
      }.run()
    }
  }

  /// The memory that the command line selects.
  private func source(_ xen: Xen) throws -> MapSource {
    if let from { return .published(path: from) }
    guard let request = try request(xen) else {
      throw Failure("give --from, or --domain, --directory and --size")
    }
    return offerDirectory ? .offered(request) : .described(request)
  }

  /// The buffer as the command line describes it.
  private func request(_ xen: Xen) throws -> MapParameters? {
    guard let domain, let size else { return nil }
    let request = MapParameters(
      domain: try domain.resolve(xen), directory: directory ?? GrantReference(rawValue: 0),
      byteCount: size.bytes, offset: offset?.bytes ?? 0, geometry: try picture.geometry())
    try request.check()
    return request
  }

  /// The drawing that --draw selects; a pattern fills a whole frame.
  private func drawing(_ name: String) -> BufferSource {
    if let pattern = TestPattern(name: name) { return .pattern(pattern, byteCount: .max) }
    return .picture(path: name)
  }

  /// A name that describes the source of the buffer.
  private var defaultName: String {
    if let from { return DmaBuf.shortened("zcopy \(from.split(separator: "/").last ?? "")") }
    return "zcopy directory \(directory?.rawValue ?? 0)"
  }
}
