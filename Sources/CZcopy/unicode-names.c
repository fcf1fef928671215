/* SPDX-License-Identifier: MIT */
#include <stdint.h>

/*
 * Swift's standard library has the names of all Unicode characters: 550 KiB of tables in every static executable, which none
 * of these programs prints. The Makefile has the linker replace the function that reads them (--wrap), and remove the tables.
 *
 * Unicode.Scalar.Properties.name is nil then. The function is _swift_stdlib_getScalarName of SwiftShims/UnicodeData.h.
 */
intptr_t __wrap__swift_stdlib_getScalarName(uint32_t scalar, uint8_t *buffer, intptr_t capacity);

intptr_t __wrap__swift_stdlib_getScalarName(uint32_t scalar, uint8_t *buffer, intptr_t capacity) {
    (void)scalar;
    (void)buffer;
    (void)capacity;
    return 0;
}
