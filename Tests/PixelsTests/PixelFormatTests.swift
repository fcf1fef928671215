import Pixels
import Testing

@Suite("A pixel format")
struct PixelFormatTests {
  @Test(
    "has the code of drm_fourcc.h",
    arguments: [
      (PixelFormat.xr24, "XR24", 0x3432_5258), (.ar24, "AR24", 0x3432_5241),
      (.xb24, "XB24", 0x3432_4258), (.ab24, "AB24", 0x3432_4241), (.rg16, "RG16", 0x3631_4752),
    ] as [(PixelFormat, String, UInt32)])
  func codes(format: PixelFormat, name: String, code: UInt32) {
    #expect(format.code == code)
    #expect(format.name == name)
    #expect("\(format)" == name)
    #expect(PixelFormat(name: name) == format)
    #expect(PixelFormat(name: name.lowercased()) == format)
  }

  @Test("is known by its name alone", arguments: ["", "XR2", "XR24 ", "NV12", "XR24XR24", "ＸR24"])
  func unknownNames(name: String) {
    #expect(PixelFormat(name: name) == nil)
  }

  @Test("has 4 bytes a pixel, or 2 for RG16, and says whether alpha counts")
  func properties() {
    #expect(PixelFormat.all.map(\.bytesPerPixel) == [4, 4, 4, 4, 2])
    #expect(PixelFormat.all.map(\.hasAlpha) == [false, true, false, true, false])
    #expect(Set(PixelFormat.all).count == PixelFormat.all.count)
  }
}
