#!/usr/bin/env bash
# Find out which functions a start of fastportd runs, and which serving peers does, and write them to
# tools/start-order.ld, so that build.rs lets the linker put them side by side. Run it after a larger
# change of what happens at the start; a function that the list names and the program has not, or the
# other way round, does no harm. Needs valgrind, binutils and python3; Linux on x86_64 or aarch64.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in valgrind nm python3; do
    command -v "$program" >/dev/null || { echo "needs $program" >&2; exit 69; }
done
target=${CARGO_TARGET_DIR:-$PWD/target}/start-order
work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT

# the names of the functions
CARGO_PROFILE_RELEASE_STRIP=none "${CARGO:-cargo}" build --release --locked --bins --target-dir "$target"

cat >"$work/gateway.toml" <<'TOML'
listen = [
    { kind = "tcp", address = "127.0.0.1:0" },
    { kind = "websocket", address = "127.0.0.1:0" },
]
TOML

# Runs the daemon under callgrind, and the functions named in the arguments while it is ready.
profile() {
    local name=$1
    shift
    FASTPORT_CONFIG=$work/gateway.toml valgrind --tool=callgrind --demangle=no \
        --callgrind-out-file="$work/$name.callgrind" \
        "$target/release/fastportd" 2>"$work/$name.log" >/dev/null &
    daemon=$!
    until grep -q ' ready ' "$work/$name.log"; do
        kill -0 "$daemon" || { cat "$work/$name.log" >&2; exit 1; }
        sleep 0.1
    done
    url_of() { sed -n "s/.*listening url=$1:/$1:/p" "$work/$name.log"; }
    for part; do "$part"; done
    kill "$daemon"
    wait "$daemon" || true
    daemon=
}

fastport() { "$target/release/fastport" --connect-timeout 30 "$@" >/dev/null; }

peers() {
    for scheme in tcp ws; do
        fastport --url "$(url_of $scheme)" sub 'chat/#' --count 20 & local reader=$!
        # what is kept comes to the reader whenever it subscribes
        fastport --url "$(url_of $scheme)" pub chat/first hello --keep
        while kill -0 "$reader" 2>/dev/null; do
            for counted in '' --counted; do
                seq 10 | fastport --url "$(url_of $scheme)" pub chat/room --lines $counted
            done
        done
        fastport --url "$(url_of $scheme)" status
    done
}

profile start
profile serve peers

python3 - "$target/release/fastportd" "$work" >"$work/start-order.ld" <<'PYTHON'
import re, subprocess, sys

# generic functions have names of any length; the start of them says enough
LONGEST = 110
program, work = sys.argv[1:]
symbols = set()
for line in subprocess.run(["nm", "--defined-only", program], check=True, text=True,
                           capture_output=True).stdout.splitlines():
    kind, name = line.split()[1:]
    if kind in "tTwW":
        symbols.add(name)

def pattern(name):
    """The name without what another version of the source or the compiler changes."""
    name = re.sub(r"17h[0-9a-f]{16}E", "17h*", name)            # legacy mangling's hash
    name = re.sub(r"Cs[0-9A-Za-z]{5,13}_", "Cs*_", name)        # v0 mangling's crate
    name = re.sub(r"\.llvm\.\d+$", "*", name)
    return name if len(name) <= LONGEST else name[:LONGEST] + "*"

def functions(part):
    """The functions that ran."""
    with open(f"{work}/{part}.callgrind") as lines:
        names = (re.match(r"c?fn=\(\d+\) (.+)", line) for line in lines)
        names = {re.sub(r"'\d+$", "", name[1]) for name in names if name}
    return {pattern(name) for name in names & symbols}

start = functions("start")
serve = functions("serve") - start
print("/* Written by tools/start-order.sh; build.rs says what it is for. */\n"
      "SECTIONS\n{\n  .text.start :\n  {")
for title, patterns in [("what a start runs", start), ("what serving peers runs beside it", serve)]:
    print(f"    /* {title} */")
    for name in sorted(patterns):
        print(f"    *(.text*.{name})")    # .text. or .text.unlikely.
print("  }\n}\nINSERT BEFORE .text;")
PYTHON
mv "$work/start-order.ld" tools/start-order.ld
echo "tools/start-order.ld: $(grep -c '\*(' tools/start-order.ld) functions"
