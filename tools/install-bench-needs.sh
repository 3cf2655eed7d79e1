#!/usr/bin/env bash
# Install what the benchmarks need beside Rust; quiet when everything is there.
#
#   mosquitto, nats-server   two of the relays that the daemon is compared with (Debian packages)
#   linux-perf               counts system calls; without it they are "not measured"
#   rumqttd                  the third relay, from crates.io, built into target/bench-tools (minutes)
#
# Debian packages are installed only when something is missing, and only by root or through sudo;
# otherwise the script names them and ends with status 69. Services that come with them are stopped
# again: the benchmarks start relays of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

rumqttd=0.20.0                          # the release that the tables name
root=${CARGO_TARGET_DIR:-$PWD/target}/bench-tools
PATH=$PATH:/usr/sbin                    # Debian's mosquitto is there

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v nats-server >/dev/null || missing+=(nats-server)
command -v perf >/dev/null || missing+=(linux-perf)
command -v strip >/dev/null || missing+=(binutils)

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        echo "the benchmarks need: ${missing[*]} (names of Debian packages); install them as root" >&2
        exit 69
    fi
    echo "installing for the benchmarks: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    if [ -d /run/systemd/system ]; then
        for service in mosquitto nats-server; do
            if [[ " ${missing[*]} " == *" $service "* ]]; then
                "${as_root[@]}" systemctl disable --quiet --now "$service" || true
            fi
        done
    fi
fi

if ! [ -e "$root/rumqttd-$rumqttd" ]; then
    echo "building for the benchmarks: rumqttd $rumqttd from crates.io into $root"
    # without --locked: its lock file names metrics 0.22.1, which Rust 1.95 refuses
    ${CARGO:-cargo} install --quiet --root "$root" --version "$rumqttd" rumqttd
    touch "$root/rumqttd-$rumqttd"
fi
