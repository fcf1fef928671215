# xen-zcopy. `make demo` and `make test` are all that most need.

SWIFT ?= swift
PREFIX ?= /usr/local
# Fully static executables: they run in any dom0 and in any guest, with nothing else installed there.
STATIC = $(SWIFT) build -c release -Xswiftc -static-executable --scratch-path .build-static
BIN = .build/lab/bin
SOURCES = $(shell find Sources Benchmarks -name '*.swift' -o -name '*.c' -o -name '*.h' 2>/dev/null) Package.swift

.PHONY: all demo test unit lint smoke bench static install clean require help

all: require ## Build the command and the libraries
	$(SWIFT) build

demo: static ## The main job on real Xen: a guest's picture becomes a dma-buf in dom0; leaves demo/guest.png
	lab/run demo
	@mkdir -p demo && cp lab-results/demo/*.png demo/
	@sed -n 's/^# mapped/mapped/p' lab-results/demo/tap
	@ls -1 demo/*.png

test: lint unit smoke ## Everything: lint, unit tests, and the smoke scenario on real Xen

unit: require ## Build, with warnings as errors, and run the unit tests
	SWIFT_BACKTRACE=enable=no $(SWIFT) test

lint: require ## Check format and comments
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests $(wildcard Benchmarks/*.swift Benchmarks/Sources)

smoke: static ## Boot real Xen and run the smoke scenario
	lab/run smoke

bench: static ## Compare with plain C on real Xen: medians and ratios
	cd Benchmarks && $(STATIC) --scratch-path ../.build-bench
	install -D .build-bench/release/xen-zcopy-bench $(BIN)/xen-zcopy-bench
	lab/run bench

static: require $(BIN)/.stamp ## Fully static executables, in .build/lab/bin

$(BIN)/.stamp: $(SOURCES)
	$(STATIC) --product xen-zcopy
	$(STATIC) --product xen-zcopy-contract
	@mkdir -p $(BIN)
	install .build-static/release/xen-zcopy .build-static/release/xen-zcopy-contract $(BIN)/
	@touch $@

install: static ## Install the command below PREFIX (/usr/local)
	install -D -s $(BIN)/xen-zcopy $(DESTDIR)$(PREFIX)/bin/xen-zcopy

clean: ## Remove what was built here; the lab's images stay in their cache
	rm -rf .build .build-static .build-bench lab-results demo

require:
	@scripts/require

help: ## Say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12
