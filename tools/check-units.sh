#!/usr/bin/env bash
# Check the units in systemd/ and the drop-ins for them: every key is known, every value understood, and the
# sandbox's exposure is at most 1.5 of 10.
#
# `systemd-analyze verify` only warns of unknown keys, so any message is a failure. The units are looked
# at in a scratch root with the distribution's own and empty stand-ins for the programs: nothing is
# installed, and root is not needed. With INSTALL=1, as CI has it, systemd is installed where it is missing;
# without it the check is skipped, and the script says so, or fails with FASTPORT_NO_SKIP.
set -euo pipefail
cd "$(dirname "$0")/.."

most=15                                 # tenths

if ! command -v systemd-analyze >/dev/null && [ -n "${INSTALL:-}" ]; then
    tools/install-test-needs.sh
fi
if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: units. No systemd-analyze here (Debian: systemd)"
    if [ -n "${FASTPORT_NO_SKIP:-}" ]; then exit 1; fi
    exit 0
fi
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
units=$root/etc/systemd/system
mkdir -p "$root/usr/lib/systemd" "$units" "$root/usr/bin" "$root/bin"
cp -a /lib/systemd/system "$root/usr/lib/systemd/"
ln -s usr/lib "$root/lib"
cp systemd/*.service systemd/*.socket "$units/"
install -m 755 /dev/null "$root/usr/bin/fastportd"
install -m 755 /dev/null "$root/bin/kill"

failed=0

# of a unit: what is said of it, which should be nothing
verify() {
    local said
    said=$(systemd-analyze verify --man=no --root="$root" "$1" 2>&1) || failed=1
    if [ -n "$said" ]; then
        echo "$2: ${said//$root/}"
        failed=1
    fi
}

for unit in systemd/*.service systemd/*.socket; do
    verify "$(basename "$unit")" "$unit"
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
for drop_in in systemd/drop-ins/*.conf; do
    # systemd-NUMBER.conf is for that version and newer ones
    needs=$(sed -n 's|.*/systemd-\([0-9]*\)\.conf$|\1|p' <<<"$drop_in")
    if [ "${needs:-0}" -gt "$version" ]; then
        echo "$drop_in: not looked at, since this systemd ($version) is older"
        continue
    fi
    mkdir "$units/fastportd.service.d"
    cp "$drop_in" "$units/fastportd.service.d/"
    verify fastportd.service "$drop_in"
    rm -r "$units/fastportd.service.d"
done
exit "$failed"
