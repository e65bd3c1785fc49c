#!/usr/bin/env bash
# Drives the double of MAX with clients that others wrote: the official TypeScript client and a public Rust client, each by long poll
# and by webhook. Needs Node 20.19 or later with npm, and the package registries of npm and crates.io at the first run.
# Exit code 0: all four conversations went as they should.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

for tool in node npm cargo; do
  command -v "$tool" >/dev/null || { echo "official clients: $tool is missing: install it and run again" >&2; exit 2; }
done

(cd "$here/typescript" && npm ci --ignore-scripts --silent)
cargo build --quiet --locked --manifest-path "$root/Cargo.toml"
CARGO_TARGET_DIR="$root/target/official-clients" cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml"
triple="${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}"
client="$root/target/official-clients/${triple}debug/public-max-client"
maxchannel="${CARGO_TARGET_DIR:-$root/target}/${triple}debug/maxchannel"

any=127.0.0.1:0
exec {addresses}< <(exec "$maxchannel" simulator --max-listen $any --files-listen $any --mango-listen $any --creatio-listen $any \
  --identity-listen $any --for 10m)
simulator=$!
trap 'kill "$simulator" 2>/dev/null || true' EXIT
read -r -t 30 line <&"$addresses" || { echo "official clients: the simulator does not start" >&2; exit 1; }
MAX_URL="$(node -p 'JSON.parse(process.argv[1]).max.url' "$line")"
export MAX_URL

for mode in polling webhook; do
  node "$here/typescript/client.mjs" "$mode"
  "$client" "$mode"
done
