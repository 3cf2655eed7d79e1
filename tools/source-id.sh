#!/usr/bin/env bash
# Print what tells one state of the sources from another.
#
#   tools/source-id.sh            of those that programs are made of
#   tools/source-id.sh package    of those, then of what is packed beside the programs (tools/package-tree.sh)
set -euo pipefail
cd "$(dirname "$0")/.."

id() { find "$@" -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16; }

programs=$(id Cargo.toml Cargo.lock build.rs .cargo src crates board-configs tools/start-order.ld tools/cross.sh -type f)
if [ "${1:-}" = package ]; then
    # pages of figures and reasons are not packed, and some are written after packing
    echo "$programs-$(id README.md LICENSE-* docs packaging systemd tools/{package-tree,deb,tarball}.sh -type f \
        ! -path 'docs/benchmarks*' ! -name board-test.md ! -name bytes-per-reading.md ! -name decisions.md \
        ! -name footprint.md)"
else
    echo "$programs"
fi
