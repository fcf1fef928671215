import CPNG
import Pixels

/// What the code here needs to know of a pixel format, looked up once for a whole picture.
enum PixelLayout {
  /// Bytes blue, green, red, and alpha or nothing.
  case bgr(alpha: Bool)
  /// Bytes red, green, blue, and alpha or nothing.
  case rgb(alpha: Bool)
  /// 16-bit words of 5, 6 and 5 bits.
  case rgb565

  /// - Throws: `PictureError.unsupportedFormat` for a format that came after this code.
  init(_ format: PixelFormat) throws(PictureError) {
    switch format {
    case .xr24, .ar24: self = .bgr(alpha: format.hasAlpha)
    case .xb24, .ab24: self = .rgb(alpha: format.hasAlpha)
    case .rg16: self = .rgb565
    default: throw .unsupportedFormat(format)
    }
  }

  /// The layout in which libpng reads and writes pixels. Other layouts are converted through three
  /// bytes a pixel.
  var codecLayout: cpng_layout {
    switch self {
    case .bgr(let alpha): alpha ? .CPNG_BGRA : .CPNG_BGRX
    case .rgb(let alpha): alpha ? .CPNG_RGBA : .CPNG_RGBX
    case .rgb565: .CPNG_RGB
    }
  }

  /// Bytes of a row on its way to or from libpng, or 0 where it needs no other form.
  func convertedRowBytes(width: Int) -> Int {
    if case .rgb565 = self { 3 * width } else { 0 }
  }

  /// Four bytes of a run of one opaque colour, the first in the low byte: one pixel or two.
  func pattern(of colour: Colour) -> UInt32 {
    let red = UInt32(colour.red)
    let green = UInt32(colour.green)
    let blue = UInt32(colour.blue)
    switch self {
    case .bgr: return 0xff00_0000 | red << 16 | green << 8 | blue
    case .rgb: return 0xff00_0000 | blue << 16 | green << 8 | red
    case .rgb565:
      let pixel = UInt32(RGB565.pack(red: colour.red, green: colour.green, blue: colour.blue))
      return pixel << 16 | pixel
    }
  }
}

/// An opaque colour, 8 bits a channel.
struct Colour: Equatable {
  var red: UInt8
  var green: UInt8
  var blue: UInt8

  static let white = Colour(red: 255, green: 255, blue: 255)
  static let black = Colour(red: 0, green: 0, blue: 0)
}

/// Pixels of 5, 6 and 5 bits, and the way to 8 bits and back.
enum RGB565 {
  /// Drops the low bits, as the kernel's `drm_fb_xrgb8888_to_rgb565` does.
  @inline(__always)
  static func pack(red: UInt8, green: UInt8, blue: UInt8) -> UInt16 {
    UInt16(red >> 3) << 11 | UInt16(green >> 2) << 5 | UInt16(blue >> 3)
  }

  /// Repeats the high bits in the low ones, so that black stays 0 and white becomes 255.
  @inline(__always)
  static func unpack(_ pixel: UInt16) -> Colour {
    let red = UInt8(pixel >> 11)
    let green = UInt8(pixel >> 5 & 0x3f)
    let blue = UInt8(pixel & 0x1f)
    return Colour(
      red: red << 3 | red >> 2, green: green << 2 | green >> 4, blue: blue << 3 | blue >> 2)
  }

  /// Converts as many whole pixels as both sides have room for.
  static func unpack(_ pixels: RawSpan, into rgb: inout MutableRawSpan) {
    let count = min(pixels.byteCount / 2, rgb.byteCount / 3)
    // SAFETY: both pointers live for the closure, and `count` pixels lie inside both.
    unsafe pixels.withUnsafeBytes { source in
      unsafe rgb.withUnsafeMutableBytes { target in
        for index in 0..<count {
          let word = unsafe source.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
          let colour = unpack(UInt16(littleEndian: word))
          unsafe target[3 * index] = colour.red
          unsafe target[3 * index + 1] = colour.green
          unsafe target[3 * index + 2] = colour.blue
        }
      }
    }
  }

  /// Converts as many whole pixels as both sides have room for.
  static func pack(_ rgb: RawSpan, into pixels: inout MutableRawSpan) {
    let count = min(rgb.byteCount / 3, pixels.byteCount / 2)
    // SAFETY: both pointers live for the closure, and `count` pixels lie inside both.
    unsafe rgb.withUnsafeBytes { source in
      unsafe pixels.withUnsafeMutableBytes { target in
        for index in 0..<count {
          let pixel = unsafe pack(
            red: source[3 * index], green: source[3 * index + 1], blue: source[3 * index + 2])
          unsafe target.storeBytes(
            of: pixel.littleEndian, toByteOffset: 2 * index, as: UInt16.self)
        }
      }
    }
  }
}
