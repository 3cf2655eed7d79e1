#!/usr/bin/env bash
# Install what the build and the tests need beside Rust; quiet when everything is there.
#
#   a C compiler and linker      for ring, and for every Rust program
#   libsystemd-dev, pkg-config   the feature `systemd` links libsystemd
#   iproute2                     network namespaces with wires that misbehave
#   strace                       records what the spool writes, for tests of a loss of power
#   systemd, systemd-container   the units are checked, and the daemon runs under a real systemd
#   libfaketime                  the daemon on a machine whose clock is wrong, or set meanwhile
#   python3 with venv            the WebSocket tests talk to the daemon with a client that we did not
#                                write, the Python package `websockets`; sealing is compared with one over
#                                `cryptography`; the layer for Yocto is read by bitbake's own parser, which is in
#                                `bitbake-setup`; all in a venv of this checkout, target/test-venv
#
# Debian packages are installed only when something is missing, and only by root or through sudo;
# otherwise the script names them and ends with status 69.
set -euo pipefail
cd "$(dirname "$0")/.."

websockets=17.4                         # the releases that the tests were written against
cryptography=50.0.2
bitbake_setup=2.19.0
venv=$PWD/target/test-venv
mark=$venv/websockets-$websockets-cryptography-$cryptography-bitbake-$bitbake_setup

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v pkg-config >/dev/null || missing+=(pkg-config)
[ -e /usr/include/systemd/sd-daemon.h ] || missing+=(libsystemd-dev)
[ -x /lib/systemd/systemd ] || missing+=(systemd systemd-sysv)
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
compgen -G "/usr/lib/*/faketime/libfaketimeMT.so.1" >/dev/null || missing+=(libfaketime)
command -v ip >/dev/null || missing+=(iproute2)
command -v strace >/dev/null || missing+=(strace)
command -v python3 >/dev/null || missing+=(python3)
# Debian splits venv off python3; ensurepip is the part that is left out
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        echo "the tests need: ${missing[*]} (names of Debian packages); install them as root" >&2
        exit 69
    fi
    echo "installing for the tests: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! [ -e "$mark" ]; then
    echo "installing for the tests: websockets $websockets, cryptography $cryptography and" \
        "bitbake-setup $bitbake_setup from PyPI into target/test-venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "websockets==$websockets" \
        "cryptography==$cryptography" "bitbake-setup==$bitbake_setup"
    "$venv/bin/python" -c 'import bb, cryptography, websockets'
    touch "$mark"
fi
