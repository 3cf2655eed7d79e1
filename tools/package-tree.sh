#!/usr/bin/env bash
# Lay out what packages install, as it will lie on a board.
#
#   tools/package-tree.sh PROGRAMS TARGET TO [SOURCE]
#
# PROGRAMS is the folder with fastportd and fastport, for TARGET; they are stripped if they are not yet. TO is
# made anew. Man pages and completions are written by the tool that is packed where it runs on this machine, else by
# this machine's build of the same source. SOURCE is what `tools/source-id.sh package` says of the source that the
# programs were built from, and goes along; without it, as of programs that were given, that is not known. Used by
# tools/deb.sh and tools/tarball.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# = 3 ] || [ $# = 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 64; }
programs=$1 target=$2 to=$3 source=${4:-unknown}
cargo=${CARGO:-cargo}
share=$to/usr/share
doc=$share/doc/fastport

rm -rf "$to"
mkdir -p "$to/usr/bin" "$doc/examples" "$doc/docs" "$share/man/man1" "$share/man/man8"

for program in fastportd fastport; do
    install -m 755 "$programs/$program" "$to/usr/bin/"
    if readelf -S "$programs/$program" | grep -q '\.symtab'; then
        "${STRIP:-strip}" --strip-all "$to/usr/bin/$program"
    fi
done

tool=$programs/fastport
if ! "$tool" --version >/dev/null 2>&1; then
    "$cargo" build --locked --quiet --features central --bin fastport
    tool=${CARGO_TARGET_DIR:-target}/debug/fastport
fi
"$tool" man "$share/man/man1"
install -m 644 packaging/fastportd.8 "$share/man/man8/"
completions() { mkdir -p "$share/$2"; "$tool" completions "$1" >"$share/$2/$3"; }
completions bash bash-completion/completions fastport
completions zsh zsh/vendor-completions _fastport
completions fish fish/vendor_completions.d fastport.fish

install -Dm 644 systemd/fastportd.service -t "$to/usr/lib/systemd/system"
install -Dm 644 systemd/fastport.sysusers "$to/usr/lib/sysusers.d/fastport.conf"
install -Dm 644 systemd/fastport.tmpfiles "$to/usr/lib/tmpfiles.d/fastport.conf"
install -Dm 644 packaging/gateway.toml -t "$to/etc/fastport"

install -m 644 README.md "$doc/"
install -m 644 docs/{boards,configuration,credentials,install,operations,protocol,sealing,tool}.md "$doc/docs/"
install -m 644 docs/gateway.example.toml systemd/fastportd.socket systemd/drop-ins/*.conf "$doc/examples/"
"$cargo" tree --quiet --locked --package fastport --features central --edges normal --target "$target" --prefix none \
    --format '{p} {l}' | sed 's/ (.*)//' | LC_ALL=C sort -u >"$doc/crates.txt"
# by which tools/board-test.sh and tools/image.sh tell an old package
echo "$source" >"$doc/source"
