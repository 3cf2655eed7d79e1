#!/usr/bin/env bash
# Check Cross.toml without containers or network: the real `cross` reads it, with stand-ins for rustup and
# docker, and what it would have built and run is looked at. Fails on TOML that is none, on a key that
# cross does not use (it only warns), and where libsystemd would not be installed.
#
# Needs `cross` (cargo install cross --locked); without it the check is skipped, and the script says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cross >/dev/null; then
    echo "SKIPPED: Cross.toml. The program cross is not here: cargo install cross --locked"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t targets < <(sed -n 's/^\[target\.\([a-z0-9_-]*\)\]$/\1/p' Cross.toml)
host=$(rustc -vV | sed -n 's/^host: //p')

# What cross asks of them, and nothing else: the real rustup would fetch a toolchain.
cat >"$work/rustup" <<R
#!/bin/sh
case "\$*" in
    *"toolchain list"*) echo "stable-$host (active, default)" ;;
    *"target list"*) for target in ${targets[*]}; do echo "\$target (installed)"; done ;;
    *"component list"*) echo "rust-src (installed)" ;;
esac
R
cat >"$work/docker" <<D
#!/bin/sh
[ "\$1" != --help ] || echo "Usage: docker"
echo "\$*" >>"$work/asked"
for argument in "\$@"; do
    case "\$before" in --file | -f) cat "\$argument" >>"$work/asked" ;; esac
    before=\$argument
done
D
chmod +x "$work/rustup" "$work/docker"

fail() {
    echo "Cross.toml, $target: $*" >&2
    cat "$work/said" "$work/asked" >&2
    exit 1
}

for target in "${targets[@]}"; do
    : >"$work/asked"
    PATH=$work:$PATH CROSS_CONTAINER_ENGINE=$work/docker CARGO_TARGET_DIR=$work/target \
        timeout 60 cross build --target "$target" >"$work/said" 2>&1 || fail "cross failed"
    ! grep -q 'unused key' "$work/said" || fail "a key that cross does not know"
    grep -qF "$target" "$work/asked" || fail "no image for it was asked for"
    [[ $target = *musl* ]] || grep -qF libsystemd-dev "$work/asked" || fail "libsystemd is not installed"
done
echo "Cross.toml: ${#targets[@]} targets, every key known"
