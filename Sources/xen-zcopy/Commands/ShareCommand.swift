import ArgumentParser
import Picture
import Pixels
import SystemPackage
import XenGrant
import ZcopyBackend

/// `xen-zcopy share`.
struct ShareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "share",
    abstract: "Grant a buffer to another domain.",
    discussion: """
      Makes memory, fills it, grants it page by page and lists the pages in a grant directory. Holds it until SIGINT or \
      SIGTERM, until the last of --frames, until the program of --exec or the other domain ends; then asks the peer to \
      release it.

      Where xen-zcopyd runs, the daemon grants the buffer, and `xen-zcopy list` shows it; this user needs no device of Xen's \
      then. Without it, and with --direct, this process does it, for which it must be root. All options work the same both \
      ways.

        xen-zcopy share --domain 0 --pattern smpte --publish screen
        xen-zcopy share --domain 0 --pattern smpte --publish screen --frames 100 --fps 10
        xen-zcopy share --domain 0 --pattern smpte --publish screen --frames 100 --pool 32M
        xen-zcopy share --domain 0 --file picture.png --publish picture
        xen-zcopy share --domain 1 --memory heap:system --width 1920 --height 1080 --publish canvas --dump drawn.png
        xen-zcopy share --domain 1 --memory fd:5 --into-directory 812
      """)

  @Option(help: "The domain that may map it: its number or name.")
  var domain: DomainName

  @Option(
    help: "The buffer's size, for instance 8294400, 8100K or 8M (default: what its contents need).")
  var size: ByteSize?

  @Option(
    help: ArgumentHelp(
      "Fill it with a file: a picture if it ends in .png, else its bytes.", valueName: "file"),
    completion: .file())
  var file: String?

  @Option(
    help: ArgumentHelp(
      "Where memory comes from: gntalloc, udmabuf, heap:NAME, fd:N (a dma-buf that was inherited), or auto.",
      valueName: "memory"))
  var memory: MemoryChoice = .automatic

  @Option(
    help: ArgumentHelp(
      "List the pages in a directory that the other domain has made (backend-allocated mode).",
      valueName: "reference"))
  var intoDirectory: GrantReference?

  @Option(
    help: ArgumentHelp(
      "Share so much at once, and draw each of --frames into a part that the peer does not read (with --publish).",
      valueName: "size"))
  var pool: ByteSize?

  @Option(help: "Fill it with a test pattern: smpte (1920x1080 unless said otherwise) or counting.")
  var pattern: TestPattern?

  @OptionGroup(title: "Picture") var picture: GeometryOptions

  @Option(
    help: ArgumentHelp(
      "Publish it in XenStore as data/zcopy/<name>, for the peer only.", valueName: "name"))
  var publish: String?

  @Option(
    help:
      "Draw that many frames of the pattern while a peer looks, then end (with --publish and --pattern)."
  )
  var frames: Int?

  @Option(help: "Frames a second, at most 240.")
  var fps: Double = 10

  @Option(
    help: ArgumentHelp(
      "Write what the peer has drawn to a file each time that it is done with a frame (with --publish).",
      valueName: "file"),
    completion: .file())
  var dump: String?

  @Option(
    help: ArgumentHelp(
      "Compare what the peer has drawn with a test pattern (with --publish).", valueName: "pattern")
  )
  var verify: TestPattern?

  @Option(
    parsing: .remaining,
    help: ArgumentHelp(
      "Run a program with the dma-buf inherited and its number in ZCOPY_FD. Takes the rest of the line.",
      valueName: "command"))
  var exec: [String] = []

  @Option(help: ArgumentHelp("How long to wait for the peer at the end.", valueName: "seconds"))
  var releaseTimeout: Int = 10

  @OptionGroup var route: RouteOptions

  @OptionGroup var common: CommonOptions

  func validate() throws {
    try route.validate(
      holding: exec.isEmpty && frames == nil && dump == nil && verify == nil)
    guard file == nil || pattern == nil else {
      throw ValidationError("--file and --pattern exclude each other")
    }
    guard size != nil || file != nil || pattern == .smpte || picture.width != nil || isGiven else {
      throw ValidationError(
        "give --size, --file, a picture's --width and --height, or --memory fd:N")
    }
    guard exec.isEmpty || memory.source != .gntalloc else {
      throw ValidationError("--exec needs a dma-buf, which memory of gntalloc is not")
    }
    if let pool {
      guard publish != nil, pattern != nil, frames != nil else {
        throw ValidationError("--pool needs --publish, --pattern and --frames")
      }
      guard size != nil || picture.width != nil || pattern == .smpte else {
        throw ValidationError("--pool needs a frame's size: give --size, or --width and --height")
      }
      guard pool.bytes > 0 else { throw ValidationError("--pool must be at least 1 byte") }
    }
    guard dump == nil && verify == nil || publish != nil else {
      throw ValidationError(
        "--dump and --verify need --publish: the peer says there what it has drawn")
    }
    if let dump, dump.lowercased().hasSuffix(".png"), picture.width == nil, pattern != .smpte,
      file?.lowercased().hasSuffix(".png") != true
    {
      throw ValidationError("a picture needs --width and --height; or dump to a name without .png")
    }
    if let size, size.bytes == 0 { throw ValidationError("--size must be at least 1 byte") }
    if let publish, Publication.path(for: publish) == nil {
      throw ValidationError("--publish takes 1 to 31 letters, digits, - and _")
    }
    if let frames {
      guard frames > 0 else { throw ValidationError("--frames must be at least 1") }
      guard publish != nil, pattern != nil else {
        throw ValidationError("--frames needs --publish and --pattern")
      }
    }
    guard (0.001...240).contains(fps) else { throw ValidationError("--fps takes 0.001 to 240") }
    guard (0...3600).contains(releaseTimeout) else {
      throw ValidationError("--release-timeout takes 0 to 3600 seconds")
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
      let (source, geometry, byteCount) = try contents()
      if let pool, let byteCount, pool.bytes < byteCount {
        throw Failure(
          "a pool of \(pool.bytes) bytes has no room for a frame of \(byteCount); give a larger --pool"
        )
      }
      let plan = ShareSession.Plan(
        request: ShareRequest(
          peer: try domain.resolve(xen), byteCount: byteCount, memory: memory.source,
          directory: intoDirectory.map { .peers($0) } ?? .own, geometry: geometry, name: publish),
        poolByteCount: pool?.bytes, source: source, frames: frames, interval: .seconds(1 / fps),
        contents: ContentsWriter(path: dump, pattern: verify), program: exec,
        isPersistent: route.persistent, releaseTimeout: .seconds(releaseTimeout))
      let daemon = try route.daemon(for: "share a buffer")
      try ShareSession(plan, output: output) { loop in
        try route.host(daemon, xen: xen, loop: loop, logger: common.logger)
      }.run()
    }
  }

  /// Whether the memory is a supplied dma-buf, which has a size of its own.
  private var isGiven: Bool {
    if case .fileDescriptor? = memory.source { true } else { false }
  }

  /// The contents of a frame, the picture in it, and its size, which a supplied dma-buf determines
  /// itself.
  private func contents() throws -> (BufferSource, PictureGeometry?, Int?) {
    if let file, file.lowercased().hasSuffix(".png") {
      let reader = try PNG.Reader(path: file, as: picture.format ?? .xr24)
      let geometry = try PictureGeometry(
        width: reader.geometry.width, height: reader.geometry.height,
        format: reader.geometry.format, stride: picture.stride)
      let byteCount = try checked(geometry)
      return (.picture(path: file), geometry, byteCount)
    }
    if let file {
      let bytes = try RawFile.byteCount(of: file)
      let geometry = try picture.geometry()
      guard bytes > 0 else { throw Failure("cannot share \(file): it is empty") }
      let byteCount = try geometry.map { try checked($0) } ?? size?.bytes ?? bytes
      guard bytes <= byteCount else {
        throw Failure(
          "cannot share \(file): its \(bytes) bytes do not fit a buffer of \(byteCount)")
      }
      return (.raw(path: file, byteCount: bytes), geometry, byteCount)
    }
    var geometry = try picture.geometry()
    if pattern == .smpte, geometry == nil {
      geometry = try PictureGeometry(
        width: 1920, height: 1080, format: picture.format ?? .xr24, stride: picture.stride)
    }
    let byteCount =
      isGiven && size == nil && pool == nil
      ? nil : try geometry.map { try checked($0) } ?? size?.bytes ?? 0
    guard let pattern else { return (.empty, geometry, byteCount) }
    return (.pattern(pattern, byteCount: byteCount ?? .max), geometry, byteCount)
  }

  /// The buffer's size for a picture: the requested size, or all rows with their padding.
  private func checked(_ geometry: PictureGeometry) throws -> Int {
    let byteCount = size?.bytes ?? geometry.stride * geometry.height
    try geometry.check(fits: byteCount)
    return byteCount
  }
}
