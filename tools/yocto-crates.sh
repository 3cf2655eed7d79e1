#!/usr/bin/env bash
# Write the crates of Cargo.lock to standard output, each pinned by its sha256, as a recipe's NAME-crates.inc: the
# form that openembedded-core's class cargo-update-recipe-crates gives it.
#
# Packages without a source are the workspace's own. A crate from anywhere but a registry has no checksum and is
# refused.
set -euo pipefail
lock=${1:-$(dirname "$0")/../Cargo.lock}

awk -v lock="$lock" '
    function value(line) { sub(/^[^"]*"/, "", line); sub(/".*/, "", line); return line }
    function finish() {
        if (name == "" || source == "") return
        if (source !~ /^registry\+/ || sum == "") {
            print lock ": " name " " version " comes from " source \
                ", which has no checksum: name it in the recipe" > "/dev/stderr"
            failed = 1
            return
        }
        # registry+https://…/crates.io-index: the fetcher names the registry without "-index"
        host = source
        sub(/\/$/, "", host); sub(/.*\//, "", host); sub(/-index$/, "", host)
        uris = uris "    crate://" host "/" name "/" version " \\\n"
        sums = sums "SRC_URI[" name "-" version ".sha256sum] = \"" sum "\"\n"
    }
    /^\[\[package\]\]/ { finish(); name = version = source = sum = "" }
    /^name = /     { name = value($0) }
    /^version = "/ { version = value($0) }
    /^source = /   { source = value($0) }
    /^checksum = / { sum = value($0) }
    END {
        finish()
        if (failed) exit 1
        print "# from Cargo.lock, by tools/yocto-crates.sh\n\nSRC_URI += \" \\\n" uris "\"\n\n" sums
    }
' "$lock" | sed '$d'
