#!/usr/bin/env bash
# Run programs that were built for another machine under its emulator (qemu-user): --version, --check,
# and messages from `fastport pub` through `fastportd` to `fastport sub`, over TCP and, where it is built
# in, TLS; with an uplink, its spool is written. What they need of a system is checked, too.
#
#   tools/cross-check.sh TARGET FOLDER
#
# Needs openssl. A daemon larger than docs/footprint.md has it is a warning, with STRICT_SIZE=1 an error
# (tools/check-size.sh).
#
# GLIBC=2.31: what the programs may need of the C library at most, as they were built with
# (tools/cross.sh); else 2.36, that of Debian 12. They run with Debian 11's own, where that could be fetched
# (tools/cross-needs.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cross-targets.sh
. tools/until-ready.sh

target=${1:?which target} programs=${2:?which folder}
about "$target"
work=$(mktemp -d)
daemon=''
end() {
    # only what was started here
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT

main() {
    for program in fastportd fastport; do check_needs "$programs/$program"; done
    emulated fastportd --version
    local parts=tcp
    configure_tcp
    if configure_uplink; then parts+=", spool"; fi
    make_certificate
    if configure_tls; then parts+=", tls"; fi
    emulated fastportd --config "$work/gateway.toml" --check
    start_daemon
    round_trip tcp
    [[ $parts != *tls* ]] || round_trip tls --ca "$work/tls.pem"
    [[ $parts != *spool* ]] || [ -e "$work/state/spool.db" ] || fail "no spool in daemon.state"
    kill "$daemon"
    wait "$daemon" || fail "the daemon did not end in order: $?"
    daemon=''
    echo "$programs: runs under ${qemu}${cpu:+ as $cpu}$([ -z "$(debian_11)" ] || echo " with Debian 11's glibc") ($parts)"
    tools/check-size.sh "$programs"
}

fail() {
    echo "$programs: $*" >&2
    [ ! -e "$work/log" ] || tail -n 20 "$work/log" >&2
    exit 1
}

# Only libc and libsystemd, no newer than said; static on musl; ARMv6 where that is meant.
check_needs() {
    local needed newest most=${GLIBC:-2.36}
    needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
    if [[ $target = *musl* ]]; then
        [ -z "$needed" ] || fail "$1 is not static: needs $needed"
    else
        # short relocations are a thing of glibc 2.36
        newest=$(readelf -V "$1" | sed 's/GLIBC_ABI_DT_RELR/GLIBC_2.36/' | grep -oE 'GLIBC_[0-9.]+' |
            sed 's/GLIBC_//' | sort -uV | tail -n 1)
        [ "$(printf '%s\n' "$newest" "$most" | sort -V | tail -n 1)" = "$most" ] ||
            fail "$1 needs glibc $newest, newer than $most"
        echo "$1: needs glibc $newest or newer: $needed"
    fi
    if [[ $target = arm-* ]]; then
        readelf -A "$1" | grep -qE 'Tag_CPU_arch: v6$' || fail "$1 is not for ARMv6"
    fi
}

# Puts into `command` what runs a program under the emulator.
emulate() {
    local program=$1 root=/usr/$triplet libraries
    shift
    libraries=$(libsystemd "$target")
    if [ -n "$(debian_11)" ]; then
        root=$(debian_11)
        libraries=$root
    fi
    command=(env ${cpu:+"QEMU_CPU=$cpu"} "$qemu")
    [[ $target = *musl* ]] || command+=(-L "$root")
    if [ -n "$libraries" ]; then
        command+=(-E "LD_LIBRARY_PATH=$libraries/usr/lib/$triplet:$libraries/lib/$triplet")
    fi
    command+=("$programs/$program" "$@")
}

emulated() {
    local command
    emulate "$@"
    "${command[@]}"
}

configure_tcp() {
    mkdir "$work/state"
    printf '%s\n' '[daemon]' "state = \"$work/state\"" '[[listen]]' 'kind = "tcp"' \
        'address = "127.0.0.1:0"' >"$work/gateway.toml"
}

# With a part that is not built in, the configuration is to be refused with these words.
add() {
    local part=$1 said
    shift
    cp "$work/gateway.toml" "$work/with.toml"
    printf '%s\n' "$@" >>"$work/with.toml"
    if said=$(emulated fastportd --config "$work/with.toml" --check 2>&1); then
        mv "$work/with.toml" "$work/gateway.toml"
        return 0
    fi
    [[ $said = *"this build has no $part; use a build of the feature set"* ]] || fail "$said"
    return 1
}

# Nobody listens there.
configure_uplink() { add uplink '[uplink]' 'central = ["tcp://127.0.0.1:9"]' 'identity = "gw"'; }

configure_tls() {
    add TLS '[[listen]]' 'kind = "tls"' 'address = "127.0.0.1:0"' "certificate = \"$work/tls.pem\"" \
        "key = \"$work/tls.key\""
}

make_certificate() {
    command -v openssl >/dev/null || fail "is not checked over TLS: needs openssl, Debian's package of that name"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=gateway \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:false \
        -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
}

start_daemon() {
    local command
    emulate fastportd --config "$work/gateway.toml"
    "${command[@]}" >"$work/log" 2>&1 &
    daemon=$!
    until_ready "$daemon" "$work/log" 60
}

# The message is kept by the relay, so it does not matter who is there first.
round_trip() {
    local transport=$1 url said
    shift
    url=$(grep -oE "$transport://127\.0\.0\.1:[0-9]+" "$work/log" | head -n 1)
    emulated fastport --url "$url" "$@" pub "check/$transport" "over $transport" --keep --wait taken \
        --timeout 60s
    said=$(emulated fastport --url "$url" "$@" sub "check/$transport" --raw --count 1 --timeout 60s)
    [ "$said" = "over $transport" ] || fail "over $transport came: $said"
}

main
