#!/usr/bin/env bash
# Print what tells one state of the sources that programs are made of from another.
set -euo pipefail
cd "$(dirname "$0")/.."
find Cargo.toml Cargo.lock build.rs .cargo src crates board-configs tools/start-order.ld tools/cross.sh -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
