#!/usr/bin/env bash
# Check the units in systemd/: every key is known, every value understood, and the sandbox's exposure is
# at most 1.5 of 10.
#
# `systemd-analyze verify` only warns of unknown keys, so any message is a failure. The units are looked
# at in a scratch root with the distribution's own and empty stand-ins for the programs: nothing is
# installed, and root is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."

most=15                                 # tenths

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED units: no systemd-analyze here (Debian: systemd)"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/lib/systemd" "$root/etc/systemd/system" "$root/usr/bin" "$root/bin"
cp -a /lib/systemd/system "$root/usr/lib/systemd/"
ln -s usr/lib "$root/lib"
cp systemd/*.service systemd/*.socket "$root/etc/systemd/system/"
install -m 755 /dev/null "$root/usr/bin/fastportd"
install -m 755 /dev/null "$root/bin/kill"

failed=0
for unit in systemd/*.service systemd/*.socket; do
    name=$(basename "$unit")
    said=$(systemd-analyze verify --man=no --root="$root" "$name" 2>&1) || failed=1
    if [ -n "$said" ]; then
        echo "${said//$root/}"
        failed=1
    fi
done
for unit in systemd/*.service; do
    name=$(basename "$unit")
    if ! systemd-analyze security --no-pager --offline=true --threshold="$most" --root="$root" \
        "$name" >"$root/security" 2>&1; then
        grep '^✗' "$root/security" || cat "$root/security"
        failed=1
    fi
    tail -n 1 "$root/security"
done
exit "$failed"
