#!/usr/bin/env bash
# Count the instructions of a message on every path and compare with benches/paths/budgets.toml; with
# UPDATE_BUDGETS=1 write that file. Callgrind counts, so the figures are the same on a busy machine;
# addr2line (binutils, which linking needs anyway) finds the functions. With INSTALL=1 what is missing
# is installed by apt-get. Without callgrind the check is skipped, and the script says so.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${CARGO_TARGET_DIR:-$PWD/target} cargo=${CARGO:-cargo}

missing=()
command -v valgrind >/dev/null || missing+=(valgrind)
command -v addr2line >/dev/null || missing+=(binutils)

if [ ${#missing[@]} -gt 0 ] && [ -n "${INSTALL:-}" ] && [ "$(id -u)" = 0 ]; then
    echo "installing for the check: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
    then
        missing=()
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "SKIPPED: instructions. They are counted by valgrind, which is not here:"
    echo "         apt-get install ${missing[*]}"
    exit 0
fi

# flags of the caller's, such as -C target-cpu, would count another program
env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "$cargo" build --quiet --locked \
    --profile instructions --package fastport-paths --bin run-path
# who counts is not what is counted: in the dev profile, and of the parts that the tests have
"$cargo" build --quiet --locked --workspace --bin guard
"$out/debug/guard" "$out/instructions/run-path"
