#!/usr/bin/env bash
# Boot an arm64 machine from Debian's packages in an emulator, install our arm64 package there, and show over its
# console that it keeps what it promises: tools/board/board.py says what. Ends with status 0 if it does.
#
#   tools/board-test.sh [TRANSCRIPT]     target/board/transcript.log is the default
#
# The root file system is made once, in some minutes (tools/board/root.sh); the package is dist/fastport_*_arm64.deb
# of this version, made unless it is there and of the present source. The transcript's first line names its source. The
# host's own programs are the central instance and the publishers. Needs root. A Debian package that is missing is
# installed with INSTALL=1, else named.
#
# DEB=FILE          another package, of whatever source
# SCRIPTS=DIR       each script in there is run on the board at the end, instead of tools/board/guest.d;
#                   an hour for each is SCRIPT_SECONDS=3600
# BOARD_PORT=N      N to N+2 are free ports of this machine (17470)
# BOARD_SECONDS=N   the longest for all of it after the root is made (2400)
# UPDATE_DOCS=1     the transcript goes into docs/board-test.md, and its figure of memory into docs/footprint.md
set -euo pipefail
cd "$(dirname "$0")/.."

transcript=$(realpath -m "${1:-target/board/transcript.log}")
scripts=${SCRIPTS:-tools/board/guest.d}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
deb=${DEB:-dist/fastport_${version}_arm64.deb}
programs=${CARGO_TARGET_DIR:-target}/debug
export BOARD_PORT=${BOARD_PORT:-17470}

[ "$(id -u)" = 0 ] || { echo "needs root, to make a root file system of packages" >&2; exit 77; }

main() {
    install_needs
    [ -n "${DEB:-}" ] || [ "$(source_of_package)" = "$(tools/source-id.sh package)" ] ||
        tools/deb.sh aarch64-unknown-linux-gnu
    "${CARGO:-cargo}" build --locked --bins --features central
    local folder
    folder=$(tools/board/root.sh)
    run=$(mktemp -d)
    trap 'rm -rf "$run"' EXIT
    make_keys
    lay_over
    timeout --kill-after=10 "${BOARD_SECONDS:-2400}" python3 tools/board/board.py \
        "$folder" "$run" "$programs" "$scripts" "$transcript" "$deb, source $(source_of_package)"
    if [ -n "${UPDATE_DOCS:-}" ]; then
        write_page
        tools/board/memory-row.sh
    fi
}

# A package from before it had that file has no answer.
source_of_package() {
    [ ! -e "$deb" ] || dpkg-deb --fsys-tarfile "$deb" | tar xO ./usr/share/doc/fastport/source 2>/dev/null || true
}

install_needs() {
    local missing=() need
    for need in mmdebstrap:mmdebstrap arch-test:arch-test qemu-aarch64-static:qemu-user-static cpio:cpio depmod:kmod \
        qemu-system-aarch64:qemu-system-arm mkfs.ext4:e2fsprogs openssl:openssl; do
        command -v "${need%:*}" >/dev/null || missing+=("${need#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ -n "${INSTALL:-}" ] || { echo "needs Debian's ${missing[*]}; INSTALL=1 installs them" >&2; exit 69; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The host is 10.0.2.2 to the board.
make_keys() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=central \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:10.0.2.2 \
        -keyout "$run/central.key" -out "$run/central.pem" 2>/dev/null
    "$programs/fastport" key new "$run/gateway.key" --credentials "$run/credentials.toml" --session demo \
        --id board --gateway --publish 'gateways/%d/#' --subscribe 'gateways/%d/#' >/dev/null
    chmod 600 "$run/credentials.toml"
}

# What lies over the root in this run: the package, what configures it, and a shell on the console.
lay_over() {
    local board=$run/first/over/root/board units=$run/first/over/etc/systemd/system
    mkdir -p "$board/guest.d" "$units/multi-user.target.wants"
    cp tools/board/init "$run/first/"
    cp "$deb" "$board/fastport.deb"
    cp "$run/gateway.key" "$run/central.pem" "$board/"
    sed "s/@PORT@/$((BOARD_PORT + 1))/" tools/board/gateway.toml >"$board/gateway.toml"
    cp tools/board/{watch-memory,ready-time} "$board/"
    cp "$scripts"/* "$board/guest.d/"
    cp tools/board/board-shell.service "$units/"
    ln -s ../board-shell.service "$units/multi-user.target.wants/"
    # two archives one after the other are one
    (cd "$run/first" && find . -print0 | cpio --null -o -H newc --quiet -R 0:0) >"$run/first.cpio"
    cat "$folder/modules.cpio" "$run/first.cpio" >"$run/initrd"
    rm -r "$run/first" "$run/first.cpio"
}

write_page() {
    local page=docs/board-test.md mark='<!-- UPDATE_DOCS=1 make board-test writes from here -->'
    grep -qxF "$mark" "$page" || { echo "no mark in $page" >&2; exit 1; }
    sed -i "/^${mark//\//\\/}\$/q" "$page"
    printf '\n```text\n%s\n```\n' "$(sed 's/[[:space:]]*$//' "$transcript")" >>"$page"
}

main
