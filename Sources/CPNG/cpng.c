#include "CPNG.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <png.h>

enum {
  // One read() or write() moves this much: libpng itself asks for 4 bytes at a time.
  BUFFER_SIZE = 64 * 1024,
  SIGNATURE_SIZE = 8,
  // Ancillary chunks are skipped unread; anything longer than this is not a picture of ours.
  LONGEST_CHUNK = 8 * 1000 * 1000,
};

struct cpng {
  png_structp png;
  png_infop info;
  int fd;
  int writing;
  int error;
  cpng_status status;
  uint32_t width;
  uint32_t height;
  uint32_t next_row;
  size_t row_size;
  // A whole interlaced picture, from the first row asked for; else NULL.
  uint8_t *image;
  int interlaced;
  char message[160];
  size_t start;
  size_t end;
  uint8_t buffer[BUFFER_SIZE];
};

static void set_message(cpng *picture, const char *message) {
  size_t length = strnlen(message, sizeof picture->message - 1);
  memcpy(picture->message, message, length);
  picture->message[length] = 0;
}

static cpng_status fail(cpng *picture, cpng_status status, const char *message) {
  picture->status = status;
  set_message(picture, message);
  return status;
}

// libpng's error function: must not return.
static void on_error(png_structp png, png_const_charp message) {
  cpng *picture = png_get_error_ptr(png);
  // A failing file call has set its own status before it called png_error().
  if (picture->status == CPNG_DONE) fail(picture, CPNG_REFUSED, message);
  png_longjmp(png, 1);
}

// What libpng can live with, we can; and a library does not print.
static void on_warning(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static int write_all(cpng *picture, const uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t written = write(picture->fd, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      // POSIX has no write() of 0 bytes for a non-empty buffer; do not spin on one.
      picture->error = written < 0 ? errno : EIO;
      picture->status = CPNG_FILE_FAILED;
      return -1;
    }
    data += written;
    size -= (size_t)written;
  }
  return 0;
}

static int flush(cpng *picture) {
  size_t size = picture->end;
  picture->end = 0;
  return write_all(picture, picture->buffer, size);
}

static void on_write(png_structp png, png_bytep data, size_t size) {
  cpng *picture = png_get_io_ptr(png);
  if (size > BUFFER_SIZE - picture->end && flush(picture) != 0) png_error(png, "write failed");
  if (size > BUFFER_SIZE) {
    if (write_all(picture, data, size) != 0) png_error(png, "write failed");
    return;
  }
  memcpy(picture->buffer + picture->end, data, size);
  picture->end += size;
}

// cpng_write_end() flushes, once.
static void on_flush(png_structp png) { (void)png; }

// 1: there is something in the buffer; 0: the file ended; -1: read() failed.
static int fill(cpng *picture) {
  if (picture->start < picture->end) return 1;
  ssize_t got;
  do {
    got = read(picture->fd, picture->buffer, BUFFER_SIZE);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    picture->error = errno;
    picture->status = CPNG_FILE_FAILED;
    return -1;
  }
  picture->start = 0;
  picture->end = (size_t)got;
  return got > 0;
}

// Takes `size` bytes: 1 done, 0 the file ended first, -1 read() failed.
static int take(cpng *picture, uint8_t *data, size_t size) {
  while (size > 0) {
    int state = fill(picture);
    if (state <= 0) return state;
    size_t part = picture->end - picture->start;
    if (part > size) part = size;
    memcpy(data, picture->buffer + picture->start, part);
    picture->start += part;
    data += part;
    size -= part;
  }
  return 1;
}

static void on_read(png_structp png, png_bytep data, size_t size) {
  cpng *picture = png_get_io_ptr(png);
  int state = take(picture, data, size);
  if (state < 0) png_error(png, "read failed");
  if (state == 0) png_error(png, "the file ends too early");
}

cpng *cpng_new(int fd) {
  cpng *picture = calloc(1, sizeof *picture);
  if (picture != NULL) picture->fd = fd;
  return picture;
}

void cpng_free(cpng *picture) {
  if (picture == NULL) return;
  if (picture->writing) {
    png_destroy_write_struct(&picture->png, &picture->info);
  } else {
    png_destroy_read_struct(&picture->png, &picture->info, NULL);
  }
  free(picture->image);
  free(picture);
}

// Creates libpng's two objects, for one use of this one.
static cpng_status prepare(cpng *picture, int writing) {
  if (picture->status != CPNG_DONE) return picture->status;
  if (picture->png != NULL) return fail(picture, CPNG_REFUSED, "a picture is started once");
  picture->writing = writing;
  picture->png = writing ? png_create_write_struct(PNG_LIBPNG_VER_STRING, picture, on_error,
                                                   on_warning)
                         : png_create_read_struct(PNG_LIBPNG_VER_STRING, picture, on_error,
                                                  on_warning);
  if (picture->png != NULL) picture->info = png_create_info_struct(picture->png);
  if (picture->info == NULL && picture->status == CPNG_DONE) {
    return fail(picture, CPNG_REFUSED, "no memory for libpng");
  }
  return picture->status;
}

// Whether rows may follow: started, not failed, and of this direction.
static cpng_status check_started(cpng *picture, int writing) {
  if (picture->status != CPNG_DONE) return picture->status;
  if (picture->info == NULL || picture->writing != writing || picture->row_size == 0) {
    return fail(picture, CPNG_REFUSED, "the header comes first");
  }
  return CPNG_DONE;
}

static size_t layout_size(cpng_layout layout) { return layout == CPNG_RGB ? 3 : 4; }

static int layout_has_alpha(cpng_layout layout) {
  return layout == CPNG_RGBA || layout == CPNG_BGRA;
}

static int layout_is_bgr(cpng_layout layout) { return layout == CPNG_BGRX || layout == CPNG_BGRA; }

cpng_status cpng_write_header(cpng *picture, uint32_t width, uint32_t height, cpng_layout layout,
                              int level) {
  if (prepare(picture, 1) != CPNG_DONE) return picture->status;
  png_structp png = picture->png;
  if (setjmp(png_jmpbuf(png))) return picture->status;

  png_set_write_fn(png, picture, on_write, on_flush);
  png_set_compression_level(png, level);
  // The default of 8 KiB makes eight times as many IDAT chunks.
  png_set_compression_buffer_size(png, BUFFER_SIZE);
  // One cheap filter: choosing among all five for every row costs more than deflate at level 1.
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
  png_set_IHDR(png, picture->info, width, height, 8,
               layout_has_alpha(layout) ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, picture->info);
  if (layout_is_bgr(layout)) png_set_bgr(png);
  if (layout_size(layout) == 4 && !layout_has_alpha(layout)) {
    png_set_filler(png, 0, PNG_FILLER_AFTER);
  }
  picture->width = width;
  picture->height = height;
  picture->row_size = width * layout_size(layout);
  return CPNG_DONE;
}

cpng_status cpng_write_row(cpng *picture, const void *row, size_t size) {
  if (check_started(picture, 1) != CPNG_DONE) return picture->status;
  if (size != picture->row_size || picture->next_row >= picture->height) {
    return fail(picture, CPNG_REFUSED, "a row too many, or of another size");
  }
  if (setjmp(png_jmpbuf(picture->png))) return picture->status;
  png_write_row(picture->png, row);
  picture->next_row += 1;
  return CPNG_DONE;
}

cpng_status cpng_write_end(cpng *picture) {
  if (check_started(picture, 1) != CPNG_DONE) return picture->status;
  if (picture->next_row != picture->height) return fail(picture, CPNG_REFUSED, "rows are missing");
  if (setjmp(png_jmpbuf(picture->png))) return picture->status;
  png_write_end(picture->png, NULL);
  if (flush(picture) != 0) return fail(picture, CPNG_FILE_FAILED, "write failed");
  return CPNG_DONE;
}

cpng_status cpng_read_header(cpng *picture, cpng_layout layout, uint32_t longest_side,
                             uint64_t most_pixels) {
  if (prepare(picture, 0) != CPNG_DONE) return picture->status;
  png_structp png = picture->png;
  png_infop info = picture->info;

  // Asked here and not left to libpng, whose message differs with what the file is instead.
  uint8_t signature[SIGNATURE_SIZE];
  int state = take(picture, signature, sizeof signature);
  if (state < 0) return fail(picture, CPNG_FILE_FAILED, "read failed");
  if (state == 0 || png_sig_cmp(signature, 0, sizeof signature) != 0) {
    return fail(picture, CPNG_NOT_PNG, "not a PNG file");
  }

  if (setjmp(png_jmpbuf(png))) return picture->status;
  png_set_read_fn(png, picture, on_read);
  png_set_sig_bytes(png, SIGNATURE_SIZE);
  // The limits are checked below, with both sides known: libpng only says "Invalid IHDR data".
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(png, LONGEST_CHUNK);
  // Skip text, profiles and the like unread, so that their (inflated) size never matters. This
  // leaves IHDR, PLTE, tRNS, IDAT and IEND.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
  png_read_info(png, info);

  picture->width = png_get_image_width(png, info);
  picture->height = png_get_image_height(png, info);
  if (picture->width > longest_side || picture->height > longest_side ||
      (uint64_t)picture->width * picture->height > most_pixels) {
    return fail(picture, CPNG_TOO_LARGE, "the picture is too large");
  }

  // Palette, grey and 16 bits a channel all become 8-bit RGB; tRNS becomes alpha.
  png_set_expand(png);
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  if (!layout_has_alpha(layout)) png_set_strip_alpha(png);
  if (layout_has_alpha(layout)) {
    png_set_add_alpha(png, 0xff, PNG_FILLER_AFTER);
  } else if (layout_size(layout) == 4) {
    png_set_filler(png, 0xff, PNG_FILLER_AFTER);
  }
  if (layout_is_bgr(layout)) png_set_bgr(png);
  picture->interlaced = png_set_interlace_handling(png) > 1;
  png_read_update_info(png, info);

  size_t row_size = picture->width * layout_size(layout);
  // Rows are decoded straight into memory of this size, so libpng has to agree.
  if (png_get_rowbytes(png, info) != row_size) png_error(png, "unexpected row size");
  picture->row_size = row_size;
  return CPNG_DONE;
}

// Every pass of an interlaced picture, into memory of our own.
static cpng_status read_interlaced(cpng *picture) {
  // Zeroed, because a pass fills only its own pixels of a row. No overflow: the pixels are limited.
  picture->image = calloc(picture->height, picture->row_size);
  if (picture->image == NULL) return fail(picture, CPNG_REFUSED, "no memory for the picture");
  if (setjmp(png_jmpbuf(picture->png))) return picture->status;
  for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; pass++) {
    for (uint32_t row = 0; row < picture->height; row++) {
      png_read_row(picture->png, picture->image + row * picture->row_size, NULL);
    }
  }
  return CPNG_DONE;
}

cpng_status cpng_read_row(cpng *picture, void *row, size_t size) {
  if (check_started(picture, 0) != CPNG_DONE) return picture->status;
  if (size != picture->row_size || picture->next_row >= picture->height) {
    return fail(picture, CPNG_REFUSED, "a row too many, or of another size");
  }
  if (picture->interlaced) {
    if (picture->image == NULL && read_interlaced(picture) != CPNG_DONE) return picture->status;
    memcpy(row, picture->image + picture->next_row * picture->row_size, size);
  } else {
    if (setjmp(png_jmpbuf(picture->png))) return picture->status;
    png_read_row(picture->png, row, NULL);
  }
  picture->next_row += 1;
  return CPNG_DONE;
}

cpng_status cpng_read_end(cpng *picture) {
  if (check_started(picture, 0) != CPNG_DONE) return picture->status;
  if (picture->next_row != picture->height) return fail(picture, CPNG_REFUSED, "rows are missing");
  if (setjmp(png_jmpbuf(picture->png))) return picture->status;
  png_read_end(picture->png, NULL);
  return CPNG_DONE;
}

uint32_t cpng_width(const cpng *picture) { return picture->width; }

uint32_t cpng_height(const cpng *picture) { return picture->height; }

int cpng_errno(const cpng *picture) { return picture->error; }

const char *cpng_message(const cpng *picture) { return picture->message; }
