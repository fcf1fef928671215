/// How one pixel lies in memory, by its Linux DRM four-character code.
///
/// The constants of the kernel's `drm_fourcc.h`; the letters name the channels from the most to the
/// least significant bit of a little-endian word, as DRM does.
public struct PixelFormat: Hashable, Sendable {
  /// The DRM four-character code, for instance 0x34325258 for `XR24`.
  ///
  /// The C constant is `DRM_FORMAT_XRGB8888` and its siblings.
  public let code: UInt32
  /// The four letters that name the format on a command line, for instance `XR24`.
  public let name: String
  /// The size of one pixel in bytes.
  public let bytesPerPixel: Int
  /// Whether the format carries an alpha channel that is to be kept.
  public let hasAlpha: Bool

  private init(_ name: StaticString, bytesPerPixel: Int, hasAlpha: Bool) {
    self.name = "\(name)"
    self.code = self.name.utf8.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    self.bytesPerPixel = bytesPerPixel
    self.hasAlpha = hasAlpha
  }

  /// 32-bit words 0xXXRRGGBB: bytes blue, green, red, unused. `DRM_FORMAT_XRGB8888`.
  public static let xr24 = PixelFormat("XR24", bytesPerPixel: 4, hasAlpha: false)
  /// 32-bit words 0xAARRGGBB: bytes blue, green, red, alpha. `DRM_FORMAT_ARGB8888`.
  public static let ar24 = PixelFormat("AR24", bytesPerPixel: 4, hasAlpha: true)
  /// 32-bit words 0xXXBBGGRR: bytes red, green, blue, unused. `DRM_FORMAT_XBGR8888`.
  public static let xb24 = PixelFormat("XB24", bytesPerPixel: 4, hasAlpha: false)
  /// 32-bit words 0xAABBGGRR: bytes red, green, blue, alpha. `DRM_FORMAT_ABGR8888`.
  public static let ab24 = PixelFormat("AB24", bytesPerPixel: 4, hasAlpha: true)
  /// 16-bit words, 5 bits red, 6 green, 5 blue. `DRM_FORMAT_RGB565`.
  public static let rg16 = PixelFormat("RG16", bytesPerPixel: 2, hasAlpha: false)

  /// Every format that this project can read and write.
  public static let all: [PixelFormat] = [.xr24, .ar24, .xb24, .ab24, .rg16]

  /// The format of that name in any case, or nil if there is none.
  public init?(name: String) {
    guard let format = Self.all.first(where: { $0.name == name.uppercased() }) else { return nil }
    self = format
  }

  /// The format of that DRM four-character code, or nil if this project does not know it.
  public init?(code: UInt32) {
    guard let format = Self.all.first(where: { $0.code == code }) else { return nil }
    self = format
  }
}

extension PixelFormat: CustomStringConvertible {
  /// The four letters.
  public var description: String { name }
}
