# Everything that a person or CI does here. `make` alone lists the targets.
#
# One development build serves the tests, the demo and the test image: the same target and flags everywhere.
export CARGO_BUILD_TARGET ?= $(shell [ "$$(uname -sm)" = "Linux x86_64" ] && echo x86_64-unknown-linux-gnu || rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS ?= -C target-feature=+crt-static
export RUST_BACKTRACE := 0
CARGO ?= cargo
PROFILE ?= dev
ARGS ?=
# Of `faults`: a word of their names, and one way in (webhook, longPoll, mangoDialogs).
FAULTS ?=
FAULTS_WAY ?=
# Of `power-cut`: how many points.
POINTS ?=
# Of `simulate`: the first seed, how many from there on, (REPEAT=1) that one again and again, and the way in:
# webhook, longPoll or mangoDialogs.
SEED ?=
SEQUENCES ?=
REPEAT ?=
INTAKE ?=
# Of the image: `otlp` exports traces.
FEATURES ?=
# What is off by default is tested too: one build of everything for tests and their image.
TEST = $(CARGO) test --locked --workspace --features otlp
WITH_CLUSTER = FEATURES=otlp scripts/with-cluster.sh
CLUSTER ?= target/cluster
# The rights that the chart grants against those that the tests before it have used.
RIGHTS = $(TEST) --test kubernetes -- --ignored rights
MAXCHANNEL = $(CARGO) run --quiet --locked --

.PHONY: help demo test test-rust simulate power-cut faults soak test-clients test-browser fuzz test-creatio test-kubernetes test-oldest test-flux test-argocd cluster-up cluster-down lint advisories generate docs docs-check bench bench-peers bench-controller soak-controller image fmt sbom

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a MAX customer talks to an agent in Creatio, on this machine; ARGS=--once plays it through and ends
	@$(MAXCHANNEL) demo $(ARGS)

test: ## everything that CI runs but the linters
	-scripts/mono.sh
	-command -v strace >/dev/null || scripts/packages.sh 'power cut' strace
	$(WITH_CLUSTER) sh -c '$(TEST) && $(RIGHTS)'
	tests/official_clients/run.sh
	tests/browser/run.sh || [ $$? -eq 3 ]

test-rust: ## unit, wire and end-to-end tests, without a cluster
	$(TEST)

simulate: ## sequences of all that can happen against the promises of the relay; SEED=… SEQUENCES=… INTAKE=… for others
	SEED=$(SEED) SEQUENCES=$(SEQUENCES) REPEAT=$(REPEAT) INTAKE=$(INTAKE) $(TEST) --test simulate -- --nocapture

power-cut: ## the store after a power cut at any of POINTS=20000 points; SEED=… for others
	command -v strace >/dev/null || scripts/packages.sh 'power cut' strace
	CI=1 POINTS=$(or $(POINTS),20000) SEED=$(SEED) $(TEST) --test run -- --nocapture power_cut

faults: ## three ways in under 54 faults each: lost, doubled, reordered = 0; and a naive relay, which fails; a quarter of an hour; needs root for a full disk
	FAULTS="$(FAULTS)" FAULTS_WAY="$(FAULTS_WAY)" $(TEST) --test run -- --ignored --nocapture --test-threads 1 faults_

soak: ## a week of a busy channel, a day in half a minute, and a store of ten million rows: nothing grows, nothing slows down; ten minutes, 3 GB
	$(TEST) --test run -- --ignored --nocapture --test-threads 1 soak_

test-clients: ## the official MAX client and a public Rust one against our simulator
	tests/official_clients/run.sh

test-browser: ## the playground and the status page in a real browser; PICTURES=1 makes the pictures of the documentation anew
	tests/browser/run.sh

fuzz: ## libFuzzer against everything that reads what others write, FUZZ_SECONDS=60 for each of seven targets
	scripts/fuzz.sh

test-creatio: ## the package inside Creatio, compiled and run here: the contract's tests, kills and load
	scripts/mono.sh
	CI=1 $(TEST) --test creatio_contract

test-kubernetes: ## the controller on a real Kubernetes, built and started here (KUBECONFIG: on that one)
	$(WITH_CLUSTER) sh -c '$(TEST) --test kubernetes && $(RIGHTS)'

test-oldest: ## definition, examples, chart and, as root, the core tests on the oldest Kubernetes that is promised
	tests/kubernetes/oldest.sh

test-flux: ## the real Flux, compiled here once (minutes), applies examples/gitops from a git server
	scripts/tools.sh flux
	CI=1 $(WITH_CLUSTER) $(TEST) --test kubernetes -- --ignored --nocapture flux_brings

test-argocd: ## Argo CD's own packages, compiled here (minutes), read our part of its settings and the statuses
	cd tests/gitops/argocd && CGO_ENABLED=0 GOTOOLCHAIN=local go test -mod=readonly -count=1 ./...

cluster-up: ## a real Kubernetes on this machine; its settings are in target/cluster/env
	tests/kubernetes/up.sh $(CLUSTER)

cluster-down: ## end it
	tests/kubernetes/down.sh $(CLUSTER)

lint: ## formatting, clippy, licences and sources of dependencies, the chart, alerts and dashboards, the release
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets --features otlp -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	"$$(scripts/tools.sh cargo-deny)" --log-level error check bans licenses sources
	scripts/lint-chart.sh
	scripts/lint-gitops.sh
	scripts/lint-release.sh
	scripts/docs.sh check

advisories: ## known security faults of dependencies; needs the advisory database's public git host
	"$$(scripts/tools.sh cargo-deny)" check advisories

generate: ## write the generated files anew: CRD, its copy in the chart, docs, dashboards, the chart's README, the kustomize base
	$(MAXCHANNEL) crd > crds/maxchannels.yaml.new && mv crds/maxchannels.yaml.new crds/maxchannels.yaml
	scripts/chart-crd.sh
	scripts/chart-readme.sh
	scripts/kustomize-base.sh
	"$$(scripts/tools.sh python-yaml)" scripts/dashboards.py
	$(MAXCHANNEL) errors > docs/errors.md.new && mv docs/errors.md.new docs/errors.md
	scripts/docs.sh reference

docs: ## serve the documentation site on 127.0.0.1:8000
	scripts/docs.sh serve

docs-check: ## build the site and open every link; the API reference must be fresh; part of lint
	scripts/docs.sh check

bench: ## memory, latency, drain and recovery of the relay; see benches/README.md
	$(CARGO) build --release --locked --no-default-features --bin maxchannel --bin maxchannel-relay --target-dir target/without-doubles
	BENCH_PROGRAM="$$PWD/target/without-doubles/$(CARGO_BUILD_TARGET)/release/maxchannel" $(CARGO) bench --locked

bench-peers: ## the relay beside what one would take instead: the official client, a public Rust one, a bare forwarder; needs Node
	$(CARGO) build --release --locked --no-default-features --bin maxchannel --bin maxchannel-relay --target-dir target/without-doubles
	cd tests/official_clients/typescript && npm ci --ignore-scripts --silent
	$(CARGO) build --release --locked --manifest-path benches/peers/rust/Cargo.toml --target-dir target/peers
	BENCH_ONLY=peers BENCH_PROGRAM="$$PWD/target/without-doubles/$(CARGO_BUILD_TARGET)/release/maxchannel" \
		BENCH_PEERS="$$PWD/target/peers/$(CARGO_BUILD_TARGET)/release" $(CARGO) bench --locked --bench relay

bench-controller: ## the controller with 1 000 channels (MAXCHANNEL_BENCH_CHANNELS=1000,5000 for others) on a real API server; minutes
	$(CARGO) build --release --locked --no-default-features --bin maxchannel --target-dir target/without-doubles
	BENCH_PROGRAM="$$PWD/target/without-doubles/$(CARGO_BUILD_TARGET)/release/maxchannel" CLUSTER_KIND=control scripts/with-cluster.sh $(CARGO) test --locked --test kubernetes -- --nocapture --ignored bench_controller

soak-controller: ## an hour of steady state with 50 channels: nothing may be written
	MAXCHANNEL_STEADY_SECONDS=3600 scripts/with-cluster.sh $(CARGO) test --locked --test kubernetes steady

image: ## target/maxchannel-image.tar, tagged localhost/maxchannel:dev; PROFILE=release for the small one, FEATURES=otlp for traces
	PROFILE=$(PROFILE) FEATURES=$(FEATURES) scripts/make-image.sh

sbom: ## target/maxchannel.cdx.json: what the program is built from (CycloneDX)
	python3 scripts/sbom.py target/maxchannel.cdx.json

fmt: ## format the sources
	$(CARGO) fmt
