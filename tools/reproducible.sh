#!/usr/bin/env bash
# Show that two builds of the same source in different folders give the same bytes.
#
#   tools/reproducible.sh TARGET [SET]         as tools/cross.sh
#
# The one is dist/TARGET/SET, built now if it is not of this source; the other is built in a copy of the
# source beside the system's temporary files. Prints both sums of each program, and fails if they differ.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cross-targets.sh

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,7p' "$0" >&2; exit 64; }
target=$1 set=${2:-edge}
about "$target"
programs=dist/$target${GLIBC:+.$GLIBC}/$set
copy=$(mktemp -d)/another-folder
trap 'rm -rf "$(dirname "$copy")"' EXIT

main() {
    [ "$(cat "$programs/source" 2>/dev/null)" = "$(tools/source-id.sh)" ] && [ -e "$programs/date" ] ||
        CHECK=0 tools/cross.sh "$target" "$set"
    copy_source
    (cd "$copy" && env -u CARGO_TARGET_DIR CHECK=0 tools/cross.sh "$target" "$set")
    local program differ=0
    for program in fastportd fastport; do
        sha256sum "$programs/$program"
        (cd "$copy" && sha256sum "$programs/$program")
        cmp "$programs/$program" "$copy/$programs/$program" || differ=1
    done
    [ $differ = 0 ] || { echo "$programs: two builds differ" >&2; exit 1; }
    echo "$programs: two builds in two folders are the same"
}

# What makes the programs, and the tools that were fetched; the date that the one has, which commits since then moved.
copy_source() {
    mkdir -p "$copy/target"
    local part
    for part in Cargo.toml Cargo.lock build.rs .cargo src crates benches tests tools board-configs \
        CHANGELOG.md; do
        cp -a "$part" "$copy/$part"
    done
    ln -s "$tools_folder" "$copy/target/cross-tools"
    SOURCE_DATE_EPOCH=$(cat "$programs/date")
    export SOURCE_DATE_EPOCH
}

main
