// libpng 1.6. Its jmp_buf interface is for CPNG alone: Swift never calls libpng itself.
#include <png.h>
