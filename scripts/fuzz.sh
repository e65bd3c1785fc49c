#!/usr/bin/env bash
# Lets libFuzzer write what the outside may write, one target after another: `fuzz/readers.rs` says what is read.
#
#   fuzz.sh [TARGET…]
#
# FUZZ_SECONDS: for each target (60). FUZZ_AT_ONCE: how many run at a time (2). No panic, no run of over 10 s, no single allocation over
# 256 MiB and no more than 1 GiB in all: else this fails, and the input lies in target/fuzz/found/TARGET. Put it into fuzz/found/TARGET,
# where the ordinary tests read it again. Works with the toolchain of everything else, whose sanitizers only have to be unlocked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=$(scripts/tools.sh cargo-fuzz)
targets=("$@")
[ $# -gt 0 ] || for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
seconds=${FUZZ_SECONDS:-60}
# Neither flags nor profile of the other builds: the address sanitizer does not link statically.
unset CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS RUSTFLAGS
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
echo "fuzz: building" >&2
# One build for all: a target each would link one after the other with nothing to do beside.
PATH="$(dirname "$tool"):$PATH" "$tool" build --fuzz-dir fuzz --target-dir target/fuzz --target "$host" >&2
bin=target/fuzz/$host/release

run() {
	local target=$1 work=target/fuzz/corpus/$1 found=target/fuzz/found/$1/
	mkdir -p "$work" "$found"
	local seeds=("fuzz/corpus/$target")
	[ ! -d "fuzz/found/$target" ] || seeds+=("fuzz/found/$target")
	if "$bin/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=16384 \
		-artifact_prefix="$found" -print_final_stats=1 "$work" "${seeds[@]}" >"target/fuzz/$target.log" 2>&1; then
		echo "fuzz: $target: nothing in $(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$target.log") inputs," \
			"at most $(sed -n 's/^stat::peak_rss_mb: *//p' "target/fuzz/$target.log") MiB" >&2
	else
		tail -n 40 "target/fuzz/$target.log" >&2
		echo "fuzz: $target failed: see target/fuzz/$target.log" >&2
		return 1
	fi
}
export -f run
export bin seconds
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_AT_ONCE:-2}" -I{} bash -c 'set -euo pipefail; run {}'
