# make test   everything that must hold          make demo   a deployment to look at
# make rack   a rehearsal on virtual boards      make test-rack   the faults of the virtual rack, all of them
# make bench  how long deployments take, beside what no software can beat
# All need root and install the Debian packages that they miss.

# sudo hides the toolchain of who called it.
ifdef SUDO_USER
CALLER := $(shell getent passwd $(SUDO_USER) | cut -d: -f6)
export PATH := $(PATH):$(CALLER)/.cargo/bin
export RUSTUP_HOME ?= $(CALLER)/.rustup
endif
export PATH := $(PATH):/usr/sbin:/sbin

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: test demo rack test-rack bench setup

test: setup
	.ci/test

demo: setup
	cargo build --quiet --workspace --bins
	@exec $(TARGET)/debug/piseduce-demo

rack: setup
	cargo build --quiet --workspace --bins
	@exec $(TARGET)/debug/piseduce-rack

test-rack: setup
	cargo test --quiet --workspace --test rack -- --test-threads 1

bench: setup
	cargo build --quiet --release --workspace --bins
	@exec $(TARGET)/release/piseduce-bench

setup:
	@.ci/setup
