#!/usr/bin/env bash
# Run a command under a real systemd as PID 1, in a throw-away view of this machine.
#
#   under-systemd.sh [-t SECONDS] [-b SOURCE:TARGET]... -- COMMAND [ARGUMENT...]
#
#   -b SOURCE:TARGET   bind a file or folder into it; relative sources are this checkout's
#   -w SOURCE:TARGET   the same, writable: for what is to be kept
#   -t SECONDS         for all of it (60)
#
# systemd-nspawn boots this machine's own root with a layer in memory over it: whatever the command
# changes is gone afterwards. The command runs as root once the system is up; its output and its exit
# status are ours. It has a loopback network of its own; /tmp, /run and /var/tmp are empty at the start.
#
# Exit status 77 and a line that begins with SKIPPED where this cannot be done: it needs root, and
# Debian's systemd and systemd-container.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=60
binds=()
while getopts t:b:w: option; do
    case $option in
        t) limit=$OPTARG ;;
        b) binds+=("--bind-ro=$(realpath "${OPTARG%%:*}"):${OPTARG#*:}") ;;
        w) binds+=("--bind=$(realpath "${OPTARG%%:*}"):${OPTARG#*:}") ;;
        *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 64; }

skip() { echo "SKIPPED under systemd: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
command -v systemd-nspawn >/dev/null || skip "needs systemd-container"
[ -x /lib/systemd/systemd ] || skip "needs systemd"

name=fastport-$$
work=$(mktemp -d)
groups=()
cleanup() {
    local group process
    for group in "${groups[@]}"; do
        while read -r process; do
            echo "$process" >"$(dirname "$group")/cgroup.procs" 2>/dev/null || true
        done <"$group/cgroup.procs" || true
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

mkdir "$work/root" "$work/out"
: >"$work/out/log"
printf '%q ' "$@" >"$work/out/command"
cat >"$work/command.service" <<UNIT
[Unit]
Wants=basic.target
After=basic.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
Environment=HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# images for containers forbid packages to start services; this one is booted
ExecStartPre=-/bin/rm -f /usr/sbin/policy-rc.d
ExecStart=/bin/bash /mnt/fastport-out/command
StandardOutput=append:/mnt/fastport-out/log
StandardError=append:/mnt/fastport-out/log
TimeoutStartSec=$limit
UNIT

# Where PID 1 is no systemd nobody has made a control group for us; systemd wants one to itself.
if [ "$(cat /proc/1/comm)" != systemd ]; then
    for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        if [ -w "$tree/cgroup.procs" ] && mkdir "$tree/$name" 2>/dev/null; then
            groups+=("$tree/$name")
        fi
    done
fi

# nspawn does not take / itself with a layer over it, but a second view of it
status=0
export work name limit
unshare --mount --propagation private bash -c '
    set -e
    while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
    shift
    mount --bind / "$work/root"
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_LOG_LEVEL=err
    exec timeout -k 5 "$((limit + 20))" systemd-nspawn --quiet --directory="$work/root" \
        --volatile=overlay --machine="$name" --register=no --keep-unit --link-journal=no \
        --private-network --console=pipe --bind="$work/out:/mnt/fastport-out" \
        --bind-ro="$work/command.service:/etc/systemd/system/fastport-command.service" "$@" \
        --boot -- --show-status=0 --log-target=journal --unit=fastport-command.service
' _ "${groups[@]}" -- "${binds[@]}" </dev/null >"$work/console" 2>&1 || status=$?
cat "$work/out/log"
if [ "$status" != 0 ] && ! [ -s "$work/out/log" ]; then
    cat "$work/console" >&2
fi
exit "$status"
