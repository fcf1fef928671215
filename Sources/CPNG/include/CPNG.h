// PNG rows to and from a file descriptor, for Swift.
//
// libpng reports errors by longjmp. Every function here sets its own jump target and returns a
// status, so no jump ever crosses a caller's frame. After a failure an object only repeats that
// failure; cpng_free() is always allowed.
#ifndef CPNG_H
#define CPNG_H

#include <stddef.h>
#include <stdint.h>

/// A PNG being read or written. Not thread safe.
typedef struct cpng cpng;

/// What a call came to.
typedef enum __attribute__((enum_extensibility(closed))) {
  /// Done.
  CPNG_DONE = 0,
  /// read() or write() failed: cpng_errno() says why.
  CPNG_FILE_FAILED,
  /// libpng refused: cpng_message() says why.
  CPNG_REFUSED,
  /// The file does not start with the PNG signature.
  CPNG_NOT_PNG,
  /// The picture is above the limits given: cpng_width() and cpng_height() say by how much.
  CPNG_TOO_LARGE,
} cpng_status;

/// The order of the bytes of a pixel in the rows given and taken.
typedef enum __attribute__((enum_extensibility(closed))) {
  /// Three bytes.
  CPNG_RGB,
  /// Four bytes, the last unused: ignored in writing, 255 in reading.
  CPNG_RGBX,
  /// Four bytes, the last unused: ignored in writing, 255 in reading.
  CPNG_BGRX,
  /// Four bytes, alpha kept.
  CPNG_RGBA,
  /// Four bytes, alpha kept.
  CPNG_BGRA,
} cpng_layout;

/// An object for one picture on an open file, or NULL without memory. The file stays the caller's.
cpng *cpng_new(int fd);

/// Frees the object and all that libpng holds for it; the file stays open.
void cpng_free(cpng *picture);

/// Writes the signature and the header. Sides are at least 1; level is zlib's, 0 to 9.
cpng_status cpng_write_header(cpng *picture, uint32_t width, uint32_t height, cpng_layout layout,
                              int level);

/// Encodes the next row of exactly `size` bytes.
cpng_status cpng_write_row(cpng *picture, const void *row, size_t size);

/// Writes what is left, once every row is there. Does not close the file.
cpng_status cpng_write_end(cpng *picture);

/// Reads the header and checks it against the limits, before memory is taken for any pixel.
cpng_status cpng_read_header(cpng *picture, cpng_layout layout, uint32_t longest_side,
                             uint64_t most_pixels);

/// Decodes the next row into exactly `size` bytes. The first row of an interlaced picture decodes
/// all of it into memory of its own, 4 bytes a pixel at most.
cpng_status cpng_read_row(cpng *picture, void *row, size_t size);

/// Reads to the end of the file and checks what follows the pixels.
cpng_status cpng_read_end(cpng *picture);

/// The width in the header that was read, in pixels.
uint32_t cpng_width(const cpng *picture);

/// The height in the header that was read, in rows.
uint32_t cpng_height(const cpng *picture);

/// The errno of the file call that failed, or 0.
int cpng_errno(const cpng *picture);

/// libpng's words for the failure, in English, ended by a zero; lives as long as the object.
const char *cpng_message(const cpng *picture);

#endif
