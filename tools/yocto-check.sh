#!/usr/bin/env bash
# Check the layer for Yocto, which is written anew to dist/meta-fastport (DIST=DIR: elsewhere).
#
#   tools/yocto-check.sh [OE_CORE [BITBAKE]]
#
# Anywhere: bitbake's own parser and fetcher, which are on PyPI, read the recipe, compare every crate with its checksum
# and unpack it, and cargo finds all that Cargo.lock names in what was unpacked (tools/yocto-parse.py).
#
# With a checkout of openembedded-core, and one of bitbake if that is not within or beside it: the recipe alone
# (bitbake -b, seconds), all recipes (bitbake -p, minutes), the recipe among them (bitbake -e), all tasks as a dry run
# (bitbake -n), and yocto-check-layer (half an hour and more). Nothing is fetched or built. bitbake refuses root: as root
# the script runs it as YOCTO_USER (nobody), who must be able to read the checkouts. It needs what a host of Yocto's
# needs; openembedded-core says what is missing. What each step said is in target/yocto-check/*.log (WORK=DIR: elsewhere).
set -euo pipefail
cd "$(dirname "$0")/.."
layer=$(realpath -m "${DIST:-dist}/meta-fastport")
work=$(realpath -m "${WORK:-target/yocto-check}")
python=${FASTPORT_TEST_PYTHON:-target/test-venv/bin/python}

main() {
    mkdir -p "$work"
    tools/yocto-layer.sh "$layer"
    with_the_parser_alone
    if [ -z "${1:-}" ]; then
        echo "SKIPPED: bitbake -b, -p, -e, -n and yocto-check-layer. They need a checkout of openembedded-core, and one"
        echo "         of bitbake: tools/yocto-check.sh OE_CORE BITBAKE, or make yocto-check OE_CORE=… BITBAKE=…"
        return
    fi
    with_bitbake "$(realpath "$1")" "${2:+$(realpath "$2")}"
}

with_the_parser_alone() {
    if ! "$python" -c 'import bb' 2>/dev/null; then
        echo "SKIPPED: the recipe in bitbake's parser. Python has no bitbake-setup: tools/install-test-needs.sh"
        return
    fi
    local crates=$work/crates unpacked=$work/unpacked
    rm -rf "$crates" "$unpacked"
    mkdir -p "$crates"
    cargo fetch --quiet --locked
    cp "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/*.crate "$crates/"
    "$python" tools/yocto-parse.py "$layer" --downloads "$crates" --unpack "$unpacked" FASTPORT_BOARD >"$work/parser.log"
    # as the class cargo_common has it: nothing but what the recipe pins
    local home=$unpacked/cargo_home
    printf '[source.crates-io]\nreplace-with = "bitbake"\n[source.bitbake]\ndirectory = "%s"\n' "$home/bitbake" \
        >"$home/config.toml"
    CARGO_HOME=$home cargo metadata --frozen --format-version 1 \
        --manifest-path "$(echo "$unpacked"/fastport-*/Cargo.toml)" >"$work/metadata.log"
    echo "bitbake's parser and fetcher: $(sed -n 's/ *"verified": //p' "$work/parser.log") crates compared and unpacked," \
        "and Cargo.lock needs no other"
    rm -rf "$crates" "$unpacked"
}

with_bitbake() {
    local oe_core=$1 bitbake=$2 build=$work/build recipe
    recipe=$(echo "$layer"/recipes-*/fastport/fastport_*.bb)
    [ -e "$oe_core/oe-init-build-env" ] || { echo "$oe_core is no checkout of openembedded-core" >&2; exit 66; }
    rm -rf "$build"
    mkdir -p "$build/conf"
    cat >"$build/conf/auto.conf" <<C
MACHINE = "qemuarm64"
INIT_MANAGER = "systemd"
BB_NO_NETWORK = "1"
C
    as_user=()
    if [ "$(id -u)" = 0 ]; then
        as_user=(runuser -u "${YOCTO_USER:-nobody}" -- env "HOME=$build")
        chown -R "${YOCTO_USER:-nobody}" "$build"
    fi
    step layer-added bitbake-layers add-layer "$layer"
    step recipe bitbake -b "$recipe" -e
    grep -q '^FASTPORT_BOARD="qemu-virt-aarch64"$' "$work/recipe.log" || failed recipe "has not the board of qemuarm64"
    step parse bitbake -p
    step environment bitbake -e fastport
    step dry-run bitbake -n fastport
    # it adds the layer itself, to see what changes
    step layer-removed bitbake-layers remove-layer "$layer"
    step check-layer yocto-check-layer --no-auto "$layer"
}

# step NAME COMMAND...: in the environment that openembedded-core sets up
step() {
    local name=$1 start=$SECONDS
    shift
    "${as_user[@]}" bash -c 'oe_core=$1 build=$2 bitbake=$3; shift 3; command=("$@")
        set -- "$build" $bitbake; cd "$oe_core"; . ./oe-init-build-env "$@" >/dev/null || exit; "${command[@]}"' \
        - "$oe_core" "$build" "$bitbake" "$@" >"$work/$name.log" 2>&1 || failed "$name" "failed: $*"
    echo "$*: ok, $((SECONDS - start)) s"
}

failed() {
    tail -n 40 "$work/$1.log" >&2
    echo "$1: $2 ($work/$1.log)" >&2
    exit 1
}

main "$@"
