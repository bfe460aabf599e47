# make test   everything that must hold          make demo   a deployment to look at
# Both need root and install the Debian packages that they miss.

# sudo hides the toolchain of who called it.
ifdef SUDO_USER
CALLER := $(shell getent passwd $(SUDO_USER) | cut -d: -f6)
export PATH := $(PATH):$(CALLER)/.cargo/bin
export RUSTUP_HOME ?= $(CALLER)/.rustup
endif
export PATH := $(PATH):/usr/sbin:/sbin

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: test demo setup

test: setup
	.ci/test

demo: setup
	cargo build --quiet --workspace --bins
	@exec $(TARGET)/debug/piseduce-demo

setup:
	@.ci/setup
