# `make help` lists the words. Every one works in a fresh checkout; CI (.ci/run) uses the same ones.

CARGO ?= cargo
# seconds for each fuzz target
FUZZ_SECONDS ?= 60
# MiB of each file of `make large-files`: twice as much on disk, for a time
LARGE_MIB ?= 4096
# the Python that tests run; it has the packages `websockets` and `cryptography`
FASTPORT_TEST_PYTHON ?= $(CURDIR)/target/test-venv/bin/python

# the load generator, which is no member of the workspace
PEERS := benches/peers/Cargo.toml

# all that there is to build, and how every step builds it that can: what one step built the next one takes
ALL := --workspace --locked --features central,systemd,faults
# a relay alone; systemd is told without its library
LEAST := --no-default-features --features minimal,sd-notify

CHECKS := fmt lint imports doc no-std deny units instructions

.DEFAULT_GOAL := help
.PHONY: help run test test-sets check checks $(CHECKS) bench bench-full footprint sizes large-files paths cross reproducible start-order \
	deb tarball image board-test yocto-layer yocto-check fuzz clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

# The dev profile: half the wait of a release build in a fresh checkout, a fraction of it after a
# change, and `make test` uses the same artefacts. Figures in CONTRIBUTING.md.
run: ## build the daemon and the tool, and start the daemon with its defaults
	@$(CARGO) build --locked --bins
	@$(CARGO) run --locked --bin fastportd

# only here: to the daemon of `make run` it would be a setting that it does not know
test: export FASTPORT_TEST_PYTHON := $(FASTPORT_TEST_PYTHON)
test: ## install what the tests need, then run all of them
	@tools/install-test-needs.sh
	$(CARGO) test $(ALL)
	$(CARGO) test --workspace --locked $(LEAST) --test daemon --test resume --test sessions --test systemd
	$(CARGO) test --manifest-path $(PEERS) --target-dir target --locked
	@tools/arm-tests.sh

# the packages alone, so that they have the features that a build of the set gives them
test-sets: export FASTPORT_TEST_PYTHON := $(FASTPORT_TEST_PYTHON)
test-sets: ## the tests of the daemon, the tool and the client library, as minimal and as edge; `make test` is of central
	@tools/install-test-needs.sh
	@set -e; for set in minimal edge; do \
	    args="--package fastport --package fastport-client --locked --no-default-features --features fastport/$$set"; \
	    $(CARGO) clippy --all-targets $$args -- -D warnings; \
	    $(CARGO) test --no-fail-fast $$args; \
	done

check: $(CHECKS) ## all that must hold before review

# for .ci/run, which times each
checks:
	@echo $(CHECKS)

fmt: ## the format of the source
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path $(PEERS) -- --check

lint: ## clippy, every warning an error
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings
	$(CARGO) clippy --workspace --lib --bins --locked --features edge,sd-notify -- -D warnings
	$(CARGO) clippy --workspace --lib --bins --locked --no-default-features --features minimal -- -D warnings
	$(CARGO) clippy --manifest-path $(PEERS) --target-dir target --all-targets --locked -- -D warnings

imports: ## who may name whom (ARCHITECTURE.md)
	$(CARGO) test --quiet $(ALL) --test import_rules

doc: ## the API documentation, every warning an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --lib --no-deps --locked

no-std: ## fastport-wire and fastport-seal without alloc, fastport-core without std, on a bare-metal target
	@tools/check-no-std.sh

deny: ## licences, sources, banned and doubled crates, advisories (deny.toml)
	@tools/check-deny.sh

units: ## the systemd units: every key known, the sandbox's exposure low
	@tools/check-units.sh

instructions: ## the instructions of a message on each path, against benches/paths/budgets.toml
	@tools/check-instructions.sh

paths: ## how long a message takes on each path; PATHS=route-1-1 for those with that in their name
	$(CARGO) bench --locked --package fastport-paths --bench paths -- $(PATHS)

bench: ## the benchmarks, in some minutes; docs/benchmarks*.md are written anew (BENCH_ROUNDS=3)
	$(CARGO) bench --locked --bench footprint --bench spool
	UPDATE_DOCS=1 $(CARGO) bench --locked --bench streams
	$(CARGO) bench --locked --package fastport-paths --bench seal
	@CARGO="$(CARGO)" tools/bench.sh

bench-full: ## the comparison with other relays in seven long rounds, for docs/benchmarks.md
	@CARGO="$(CARGO)" BENCH_ROUNDS=$${BENCH_ROUNDS:-7} BENCH_FORM=long tools/bench.sh

footprint: ## sizes, memory, wake-ups and start of the programs, into docs/footprint.md; fails over a limit
	@STRICT_SIZE=1 tools/footprint.sh

sizes: ## only the sizes of what `make cross` has built, into docs/footprint.md; fails over a limit
	@STRICT_SIZE=1 tools/footprint.sh sizes

large-files: ## files of LARGE_MIB (4096) through a small gateway, plain and sealed, and to ten receivers
	FASTPORT_TEST_FILE_MIB=$(LARGE_MIB) $(CARGO) test --release --locked --features central --test files \
	    -- --test-threads 1 --nocapture large:: pace::

cross: ## both programs for another machine: TARGET=aarch64-unknown-linux-gnu (SET=edge, GLIBC=2.31)
	@tools/cross.sh "$(TARGET)" $(SET)

reproducible: ## whether two builds in two folders are the same: TARGET=aarch64-unknown-linux-gnu (SET=edge)
	@tools/reproducible.sh "$(TARGET)" $(SET)

start-order: ## find out anew which functions a start runs (tools/start-order.ld)
	@tools/start-order.sh

yocto-layer: ## the layer for Yocto, complete with crates and sources, into dist/meta-fastport
	@tools/yocto-layer.sh

yocto-check: ## the layer in bitbake's parser; OE_CORE=… BITBAKE=… (checkouts): in bitbake and yocto-check-layer
	@tools/yocto-check.sh $(OE_CORE) $(BITBAKE)

deb: ## Debian packages, dist/fastport_VERSION_ARCH.deb; TARGET=… for other machines, GLIBC=2.31 (tools/deb.sh)
	@tools/deb.sh $(TARGET)

tarball: ## archives of static programs, dist/fastport-VERSION-TARGET.tar.gz; TARGET=… (tools/tarball.sh)
	@tools/tarball.sh $(TARGET)

image: ## the container image of Dockerfile, built and run: dist/fastport-VERSION-image.tar (tools/image.sh)
	@tools/image.sh

board-test: ## an arm64 machine in an emulator: the package, an uplink, watchdogs; some minutes
	@tools/board-test.sh

fuzz: ## each fuzz target for FUZZ_SECONDS (60); TARGETS="seal streams" for those
	@tools/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

clean: ## remove all that was built, and the tests' tools
	$(CARGO) clean
	rm -rf target fuzz/target dist
