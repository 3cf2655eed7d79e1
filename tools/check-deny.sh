#!/usr/bin/env bash
# cargo-deny over the dependency tree, by deny.toml. Takes cargo-deny from PATH, else builds it once
# into target/tools (unoptimised: it runs for a second, and optimising it takes longer than that).
# Without a network, what needs one is skipped, and the script says so.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
export PATH=$PATH:$PWD/target/tools/bin

if ! command -v cargo-deny >/dev/null; then
    echo "cargo-deny is not installed: building $version into target/tools (about a minute)"
    # its own target directory, removed after: the artefacts are of no use to anything else
    build=$PWD/target/tools/build
    if ! CARGO_TARGET_DIR=$build timeout 600 cargo install cargo-deny --version "$version" \
        --locked --debug --quiet --root "$PWD/target/tools"
    then
        rm -rf "$build"
        echo "SKIPPED: deny. cargo-deny could not be built; is there a network?"
        exit 0
    fi
    rm -rf "$build"
fi

cargo deny --locked check licenses bans sources

# The advisories come by git from GitHub, where not every build machine may go. Failing to fetch them
# is not a finding; a finding is never skipped.
if timeout 120 cargo deny --locked --log-level off fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "SKIPPED: advisories. RustSec's database (github.com/RustSec/advisory-db) cannot be fetched here;"
    echo "         run 'cargo deny check advisories' where there is network before a release."
fi
