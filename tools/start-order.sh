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

# with the names of the functions; as a profile of its own they would have other hashes
RUSTFLAGS="${RUSTFLAGS:-} -Cstrip=none" "${CARGO:-cargo}" build --release --locked --bins --target-dir "$target"

# values of every kind that an operator writes: text, numbers, sizes, times, yes and no
cat >"$work/gateway.toml" <<'TOML'
listen = [
    { kind = "tcp", address = "127.0.0.1:0" },
    { kind = "websocket", address = "127.0.0.1:0" },
]
daemon = { workers = 1, log.level = "info" }
limits = { memory = "16MiB", outbox = "256KiB", peers = 1000, topics = 10000, handshake_timeout = "10s" }
session = [{ name = "demo", open = true, retention.messages = 16, retention.age = "60s" }]
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
# bytes of others that a pattern may bring
FREE = 1024
program, work = sys.argv[1:]
symbols = {}            # bytes by name
for line in subprocess.run(["nm", "--defined-only", "--print-size", program], check=True, text=True,
                           capture_output=True).stdout.splitlines():
    _, *size, kind, name = line.split()
    if kind in "tTwW":
        symbols[name] = int(size[0], 16) if size else 0

def pattern(name):
    """The name without what another version of the source or the compiler changes."""
    name = re.sub(r"17h[0-9a-f]{16}E", "17h*", name)            # legacy mangling's hash
    name = re.sub(r"Cs[0-9A-Za-z]{5,13}_", "Cs*_", name)        # v0 mangling's crate
    name = re.sub(r"\.llvm\.\d+$", "*", name)
    return name if len(name) <= LONGEST else name[:LONGEST] + "*"

def functions(part):
    """The names of the functions that ran."""
    with open(f"{work}/{part}.callgrind") as lines:
        names = (re.match(r"c?fn=\(\d+\) (.+)", line) for line in lines)
        names = {re.sub(r"'\d+$", "", name[1]) for name in names if name}
    return names & symbols.keys()

def patterns(ran):
    """What the linker is to look for: patterns, which hold for other builds, too; where one would bring more
    that did not run than that did, as with generic functions whose names differ in the hash alone, the
    names as they are."""
    alike = {}
    for name in symbols:
        alike.setdefault(pattern(name), set()).add(name)
    size = lambda names: sum(symbols[name] for name in names)
    for name in {pattern(name) for name in ran}:
        wanted = alike[name] & ran
        yield from [name] if size(alike[name]) <= size(wanted) + FREE else wanted

start = functions("start")
serve = functions("serve") - start
print("/* Written by tools/start-order.sh; build.rs says what it is for. */\n"
      "SECTIONS\n{\n  .text.start :\n  {")
for title, ran in [("what a start runs", start), ("what serving peers runs beside it", serve)]:
    print(f"    /* {title} */")
    for name in sorted(patterns(ran)):
        print(f"    *(.text*.{name})")    # .text. or .text.unlikely.
print("  }\n}\nINSERT BEFORE .text;")
PYTHON
mv "$work/start-order.ld" tools/start-order.ld
echo "tools/start-order.ld: $(grep -c '\*(' tools/start-order.ld) functions"
