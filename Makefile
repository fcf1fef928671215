# xen-zcopy. `make demo` and `make test` are all that most need.

SWIFT ?= swift
PREFIX ?= /usr/local
FUZZ_MESSAGES ?= 1000000
# Fully static executables: they run in any dom0 and in any guest, with nothing else installed there.
# Small: nothing in them that is not used, or is there twice, or finds the way of exceptions, which nothing throws.
STATIC = XEN_ZCOPY_SMALL=1 $(SWIFT) build -c release -Xswiftc -static-executable --scratch-path .build-static $(SMALL)
SMALL = -Xswiftc -Osize -Xswiftc -use-ld=lld $(addprefix -Xlinker ,--gc-sections --icf=all -O2 -s --no-eh-frame-hdr $(NO_NAMES) -T $(CURDIR)/scripts/small.ld)
# See Sources/CZcopy/unicode-names.c.
NO_NAMES = --wrap=_swift_stdlib_getScalarName
BIN = .build/lab/bin
# The commit of the daemon from which the scenario `upgrade` upgrades. Each release sets it to the release before.
PREVIOUS ?= 6dcc2fb
PREVIOUS_TREE = .build-previous/$(PREVIOUS)
# The C client, which needs no Swift: what it is built with, and where.
VERSION := $(shell sed -n 's/.*zcopyVersion = "\(.*\)"/\1/p' Sources/Support/Version.swift)
CLIENT = .build/client
CLIENT_CFLAGS = -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Werror $(CFLAGS)
CLIENT_INCLUDES = -ISources/libxenzcopy/include -ISources/CZcopy/include
CLIENT_HEADERS = Sources/libxenzcopy/include/xenzcopy.h Sources/CZcopy/include/xen-zcopyd.h
LIBDIR ?= $(PREFIX)/lib
SOURCES = $(shell find Sources Testing Tools Benchmarks examples -name '*.swift' -o -name '*.c' -o -name '*.h' -o -name module.modulemap 2>/dev/null) \
  Package.swift Makefile scripts/small.ld
# What `make test` runs on real Xen after smoke, two at a time, the longest first: an emulated machine keeps one processor
# busy. Nothing is built meanwhile: some checks measure time, such as systemd's watchdog and the end of a fence.
SCENARIOS = matrix systemd contract dma-buf daemon upgrade devices
# More targets, which `make test` makes before the scenarios, one after the other. CI has some.
ALSO ?=
# More scenarios, beside these. CI has `bench`, whose figures do not depend on the load.
BESIDE ?=
# What boots Xen, beside what builds: programs, and Debian's packages of them.
LAB = qemu-system-x86_64:qemu-system-x86 cpio:cpio xz:xz-utils dpkg-deb:dpkg setpriv:util-linux

.PHONY: all demo test unit allocations test-sanitize fuzz lint lab-check smoke contract dma-buf devices daemon previous upgrade systemd matrix soak bench bench-program bench-native xen-ci kernel-check \
  static client check-client check-daemon install install-client deb clean require require-lab help

all: require ## Build the command and the libraries
	$(SWIFT) build

demo: require-lab static ## Both directions on real Xen: demo/guest.png is a guest's picture, demo/dom0.png what a guest drew here
	lab/run demo
	@mkdir -p demo && cp lab-results/demo/*.png demo/
	@sed -nE 's/^# (mapped|shared)/\1/p' lab-results/demo/tap
	@ls -1 demo/*.png

test: require-lab lint unit allocations check-client check-daemon lab-check smoke ## Everything: lint, unit tests, allocations, the C client, the lab, and the scenarios on real Xen
	@$(MAKE) --no-print-directory $(ALSO) previous
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(BESIDE) $(SCENARIOS)

unit: require ## Build, with warnings as errors, and run the unit tests
	SWIFT_BACKTRACE=enable=no $(SWIFT) test --disable-xctest

# Static, so that what Swift's runtime and libc allocate counts; with its symbols, to name who does.
allocations: require ## Count what the daemon allocates with each frame: fails if that is anything, and names the functions
	$(subst -Xlinker -s ,,$(STATIC)) --product xen-zcopyd-allocations
	SWIFT=$(SWIFT) scripts/check-allocations .build-static/release/xen-zcopyd-allocations

fuzz: require ## FUZZ_MESSAGES=1000000 mutated messages against the daemon's core, under AddressSanitizer; FUZZ_SEED repeats a run
	$(SWIFT) build -c release --sanitize=address --scratch-path .build-fuzz --product xen-zcopyd-fuzz
	ASAN_OPTIONS=quarantine_size_mb=16 LSAN_OPTIONS=suppressions=$(CURDIR)/scripts/leaks.supp SWIFT_BACKTRACE=enable=no \
	  .build-fuzz/release/xen-zcopyd-fuzz $(FUZZ_MESSAGES) $(FUZZ_SEED)

test-sanitize: require fuzz ## The unit tests under AddressSanitizer, and under ThreadSanitizer
	LSAN_OPTIONS=suppressions=$(CURDIR)/scripts/leaks.supp SWIFT_BACKTRACE=enable=no \
	  $(SWIFT) test --disable-xctest --sanitize=address --scratch-path .build-address
	SWIFT_BACKTRACE=enable=no $(SWIFT) test --disable-xctest --sanitize=thread --scratch-path .build-thread

lint: require ## Check format and comments, the units as systemd sees them, and that nothing that was built is committed
	@! git ls-files '*.bc' '*.o' '*.a' '*.so' '*.swiftmodule' '*.png' 2>/dev/null | grep .
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Testing Tools Tests examples/swift $(wildcard Benchmarks/*.swift Benchmarks/Sources)
	scripts/check-units

lab-check: require-lab ## How lab/run judges a machine that passes, fails, panics, or whose emulated processor fails
	lab/check

smoke: require-lab static ## What must always work: sizes, frames, death of either side
	lab/run smoke

contract: require-lab static ## What Xen does, as the simulator is held to it
	lab/run contract

dma-buf: require-lab static ## What Linux does with dma-bufs, memory files and fences, in each kind of domain
	lab/run dma-buf

devices: require-lab static ## What devices see of shared buffers, and a guest that draws on a screen
	lab/run devices

daemon: require-lab static ## xen-zcopyd beside a backend in C: lists, upgrades, restarts, deaths
	lab/run daemon

previous: require ## Build the daemon from which `upgrade` upgrades, if its commit is in this clone
	@! git cat-file -e $(PREVIOUS)^{commit} 2>/dev/null || $(MAKE) --no-print-directory $(BIN)/xen-zcopyd-previous

upgrade: require-lab static previous ## An upgrade from the daemon released before, PREVIOUS, whose clients and guests do not notice
	@if [ -x $(BIN)/xen-zcopyd-previous ]; then lab/run upgrade; \
	else echo "upgrade: skipped: commit $(PREVIOUS) is not in this clone; 'git fetch --unshallow' brings it"; fi

systemd: require-lab static ## The daemon's units, user and rules under Debian's systemd: what the service may and may not, restarts, the watchdog
	lab/run systemd

matrix: require-lab static ## What works in each kind of backend domain, and whether doctor knows
	lab/run matrix

soak: require-lab static ## 10,000 cycles of mapping and sharing, one in ten interrupted by a kill; SOAK_CYCLES=500 for fewer
	$(STATIC) --product xen-zcopy-soak
	install .build-static/release/xen-zcopy-soak $(BIN)/
	lab/run soak

xen-ci: require-lab static ## The smoke scenario as Xen's own CI would run it, by configs/xen-ci
	lab/xen-ci

kernel-check: require-lab ## Build xen-gntdev for the kernels of Debian 12 and 13, as dkms does there
	kernel/check

bench: require-lab static bench-program ## Compare with plain C on real Xen: instructions and ratios of two boots, and which limits are not met
	lab/run bench

bench-program: require $(BIN)/xen-zcopy-bench ## Build what `bench` runs in dom0

bench-native: require ## Count instructions on the simulator, without Xen, and compare them with Benchmarks/native.txt
	@scripts/require valgrind:valgrind
	$(subst -Xlinker -s ,,$(STATIC)) --product xen-zcopyd-allocations
	$(subst -Xlinker -s ,,$(STATIC)) --product xen-zcopy-native
	scripts/bench-native .build-static/release Benchmarks/native.txt

static: require $(BIN)/.stamp ## Fully static executables, in .build/lab/bin

$(BIN)/.stamp: $(SOURCES)
	$(STATIC) --product xen-zcopy
	$(STATIC) --product xen-zcopyd
	$(STATIC) --product xen-zcopy-contract
	$(STATIC) --product zcopy-example
	@mkdir -p $(BIN)
	install $(addprefix .build-static/release/,xen-zcopy xen-zcopyd xen-zcopy-contract zcopy-example) $(BIN)/
	$(CC) $(CLIENT_CFLAGS) $(CLIENT_INCLUDES) -static -s -o $(BIN)/backend examples/backend.c examples/import.c \
	  Sources/libxenzcopy/xenzcopy.c
	@touch $@

$(BIN)/xen-zcopy-bench: $(SOURCES)
	cd Benchmarks && $(STATIC) --scratch-path ../.build-bench
	install -D .build-bench/release/xen-zcopy-bench $@

$(BIN)/xen-zcopyd-previous: $(PREVIOUS_TREE)/.build-static/release/xen-zcopyd
	install -D $< $@

# As that commit's own Makefile builds it.
$(PREVIOUS_TREE)/.build-static/release/xen-zcopyd:
	mkdir -p $(PREVIOUS_TREE)
	git archive $(PREVIOUS) | tar -x -C $(PREVIOUS_TREE)
	cd $(PREVIOUS_TREE) && $(subst -Xlinker $(NO_NAMES),,$(subst $(CURDIR),$(CURDIR)/$(PREVIOUS_TREE),$(STATIC))) --product xen-zcopyd

check-daemon: static ## Check that the daemon keeps its budget of bytes and needs no library
	scripts/check-daemon $(BIN)/xen-zcopyd

client: $(CLIENT)/libxenzcopy.so $(CLIENT)/libxenzcopy.a $(CLIENT)/backend ## Build the C client, and its example, in .build/client

$(CLIENT)/xenzcopy.o: Sources/libxenzcopy/xenzcopy.c $(CLIENT_HEADERS)
	@mkdir -p $(CLIENT)
	$(CC) $(CPPFLAGS) $(CLIENT_CFLAGS) $(CLIENT_INCLUDES) -fPIC -c -o $@ $<

$(CLIENT)/libxenzcopy.a: $(CLIENT)/xenzcopy.o
	rm -f $@
	$(AR) rcs $@ $<

$(CLIENT)/libxenzcopy.so.0: $(CLIENT)/xenzcopy.o Sources/libxenzcopy/libxenzcopy.map
	$(CC) $(LDFLAGS) -shared -Wl,-soname,libxenzcopy.so.0 -Wl,-z,defs \
	  -Wl,--version-script,Sources/libxenzcopy/libxenzcopy.map -o $@ $<

$(CLIENT)/libxenzcopy.so: $(CLIENT)/libxenzcopy.so.0
	ln -sf libxenzcopy.so.0 $@

$(CLIENT)/backend: examples/backend.c examples/import.c examples/import.h $(CLIENT)/libxenzcopy.a $(CLIENT_HEADERS)
	$(CC) $(CPPFLAGS) $(CLIENT_CFLAGS) $(CLIENT_INCLUDES) $(LDFLAGS) -o $@ examples/backend.c examples/import.c \
	  $(CLIENT)/libxenzcopy.a

# Installed somewhere else, as whoever uses it finds it; its examples are built by what its pkg-config file says.
check-client: CHECK = $(CURDIR)/$(CLIENT)/check
check-client: require client ## Build the examples against the installed C client
	rm -rf $(CHECK)
	$(MAKE) -s install-client DESTDIR= PREFIX=$(CHECK) LIBDIR=$(CHECK)/lib
	cd examples && $(CC) -Wall -Werror -o $(CHECK)/backend backend.c import.c \
	  $$(PKG_CONFIG_LIBDIR=$(CHECK)/lib/pkgconfig pkg-config --cflags --libs xenzcopy)
	LD_LIBRARY_PATH=$(CHECK)/lib $(CHECK)/backend 2>&1 | grep -q '^usage:'

install-client: client ## Install the C client only: library, headers, pkg-config file and manual page
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 $(CLIENT)/libxenzcopy.so.0 $(CLIENT)/libxenzcopy.a $(DESTDIR)$(LIBDIR)/
	ln -sf libxenzcopy.so.0 $(DESTDIR)$(LIBDIR)/libxenzcopy.so
	install -m 644 $(CLIENT_HEADERS) $(DESTDIR)$(PREFIX)/include/
	install -m 644 man/libxenzcopy.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	  Sources/libxenzcopy/xenzcopy.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/xenzcopy.pc

install: static install-client ## Install all below PREFIX (/usr/local), and the configuration in /etc
	scripts/install $(BIN) "$(DESTDIR)" $(PREFIX)

deb: static client ## Debian packages, in .build/deb
	scripts/require lintian:lintian
	packaging/debian/build $(VERSION) $(BIN)

clean: ## Remove what was built here; the lab's images stay in their cache
	rm -rf .build .build-static .build-previous .build-bench .build-address .build-thread .build-fuzz lab-results demo

require:
	@scripts/require

require-lab: require
	@scripts/require $(LAB)

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16
