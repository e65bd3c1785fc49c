#!/usr/bin/env bash
# Builds maxchannel and maxchannel-relay statically and writes them as a container image, without a container engine: target/maxchannel-image.tar, tagged localhost/maxchannel:dev.
#
#   [PROFILE=dev|release] [FEATURES=otlp] make-image.sh
#
# dev (the default) has the simulators and shares its build with the tests: the Makefile sets the same two variables as below, so nothing is compiled
# twice. release leaves the simulators out. otlp exports traces. For users' images see the Dockerfile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "make-image: the tests' image is built on x86-64 Linux only: use the Dockerfile here" >&2; exit 3; }
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
case "${PROFILE:-dev}" in
# The smallest test comes along: what tests depend on changes the features of tokio and others, and a build of the program alone would compile nearly
# all of it a second time.
dev) folder=debug options=(--test architecture) ;;
release) folder=release options=(--release --no-default-features) ;;
*) echo "make-image: PROFILE is '$PROFILE': it must be dev or release" >&2; exit 2 ;;
esac
cargo build --locked --bin maxchannel --bin maxchannel-relay --features "${FEATURES:-}" "${options[@]}"

# Debug information stays in target/: the image is imported faster without it.
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in maxchannel maxchannel-relay; do
	strip --strip-debug -o "$work/$program" "$target/$CARGO_BUILD_TARGET/$folder/$program"
done
mkdir -p target
python3 scripts/docker_archive.py --binary "$work/maxchannel" --beside "$work/maxchannel-relay" --tag localhost/maxchannel:dev --output target/maxchannel-image.tar
echo "make-image: target/maxchannel-image.tar ($(($(stat -c %s target/maxchannel-image.tar) / 1048576)) MiB, localhost/maxchannel:dev, ${PROFILE:-dev})" >&2
