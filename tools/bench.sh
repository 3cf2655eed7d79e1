#!/usr/bin/env bash
# Compare the daemon with its peers and with the floor, and write docs/benchmarks.md and its charts.
#
#   BENCH_ROUNDS=3      rounds, over which medians are taken
#   BENCH_FORM=short    short: about a second a run; long: three seconds, and more of them
#   BENCH_LINES=FILE    where the lines of all runs go: target/bench/runs.jsonl
#   PEERBENCH_PATH=DIR  folders with relays that are not in PATH, such as mosquitto-2.1.2 and nanomq
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
lines=${BENCH_LINES:-$target/bench/runs.jsonl}
cargo=${CARGO:-cargo}

tools/install-bench-needs.sh
$cargo build --release --locked --bin fastportd
$cargo build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir "$target"

export PEERBENCH_PATH=$target/release:$target/bench-tools/bin:/usr/sbin:${PEERBENCH_PATH:-}
mkdir -p "$(dirname "$lines")"
rm -f "$lines"
cd benches/peers
"$target/release/peerbench" suite --rounds "${BENCH_ROUNDS:-3}" --form "${BENCH_FORM:-short}" \
    --out "$lines" | grep '^#'
"$target/release/peerbench" report "$lines" --page ../../docs/benchmarks.md
echo "# docs/benchmarks.md is written; all runs are in $lines"
