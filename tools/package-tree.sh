#!/usr/bin/env bash
# Lay out what packages install, as it will lie on a board.
#
#   tools/package-tree.sh PROGRAMS TARGET TO
#
# PROGRAMS is the folder with fastportd and fastport, for TARGET; they are stripped if they are not yet. TO is
# made anew. Man pages and completions are written by this machine's own build of the tool, which is made if
# it is not there. Used by tools/deb.sh and tools/tarball.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# = 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 64; }
programs=$1 target=$2 to=$3
cargo=${CARGO:-cargo}
tool=${CARGO_TARGET_DIR:-target}/debug/fastport
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

[ -x "$tool" ] || "$cargo" build --locked --quiet --features central --bin fastport
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
