# Everything that a person or CI does here. `make` alone lists the targets.
#
# One development build serves the tests, the demo and the test image: the same target and flags everywhere.
export RUST_BACKTRACE ?= 0
export CARGO_BUILD_TARGET ?= $(shell [ "$$(uname -sm)" = "Linux x86_64" ] && echo x86_64-unknown-linux-gnu || rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS ?= -C target-feature=+crt-static
CARGO ?= cargo
PROFILE ?= dev
ARGS ?=
MAXCHANNEL = $(CARGO) run --quiet --locked --

.PHONY: help demo test test-rust test-clients test-demo lint generate bench image fmt advisories clean-tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a MAX customer talks to an agent in Creatio, on this machine; ARGS=--once plays it through and ends
	@$(MAXCHANNEL) demo $(ARGS)

test: test-rust test-clients test-demo ## everything that CI runs but the linters

test-rust: ## unit, wire and end-to-end tests
	$(CARGO) test --locked

test-clients: ## the official MAX client and a public Rust one against our simulator
	tests/official_clients/run.sh

test-demo: ## the demo played through
	@$(MAXCHANNEL) demo --once

lint: ## formatting, clippy, unused dependencies, licences and sources of dependencies, stale generated files
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	"$$(scripts/tools.sh cargo-deny)" --log-level error check bans licenses sources

advisories: ## known security faults of dependencies; needs the advisory database's public git host
	"$$(scripts/tools.sh cargo-deny)" check advisories

generate: ## write the generated files anew: CRD and docs
	$(MAXCHANNEL) crd > crds/maxchannels.yaml

bench: ## memory, latency, drain and recovery of the relay; see benches/README.md
	$(CARGO) bench --locked

image: ## target/maxchannel-image.tar, tagged localhost/maxchannel:dev; PROFILE=release for the small one
	PROFILE=$(PROFILE) scripts/make-image.sh

fmt: ## format the sources
	$(CARGO) fmt
