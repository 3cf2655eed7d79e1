#!/bin/sh
# Install fastPort from this archive, on any Linux: the programs are static.
#
#   ./install.sh              programs to /usr/local/bin, configuration to /etc/fastport; under systemd
#                             the service is enabled and started, or started anew after an upgrade
#   ./install.sh uninstall    removes them; configuration and data stay
#   ./install.sh purge        removes these, too
#
# PREFIX=/opt/fastport   instead of /usr/local
# ROOT=/mnt/image        into an image that is mounted there; nothing is started, and users are made
#                        by the image itself (systemd-sysusers, or useradd) before the first start
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
root=${ROOT:-}
units=$root/etc/systemd/system

main() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 77 "run it as root (sudo $0), or give ROOT"
    case ${1:-install} in
        install) install_all ;;
        uninstall) uninstall ;;
        purge)
            uninstall
            rm -rf "$root/etc/fastport" "$root/var/lib/fastport"
            ;;
        *)
            sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
            exit 64
            ;;
    esac
}

fail() {
    echo "$2" >&2
    exit "$1"
}

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

install_all() {
    "$here/bin/fastportd" --version >/dev/null 2>&1 || [ -n "$root" ] ||
        fail 69 "the programs do not run here ($(uname -m)): take the archive for this processor"
    mkdir -p "$root$prefix/bin" "$root$prefix/share/man/man1" "$root$prefix/share/man/man8"
    for program in fastportd fastport; do
        # beside the old one and then in its place, since that may be running
        cp "$here/bin/$program" "$root$prefix/bin/.$program.new"
        chmod 755 "$root$prefix/bin/.$program.new"
        mv "$root$prefix/bin/.$program.new" "$root$prefix/bin/$program"
    done
    cp "$here"/man/*.1 "$root$prefix/share/man/man1/"
    cp "$here"/man/*.8 "$root$prefix/share/man/man8/"
    make_user
    install_configuration
    install_service
}

make_user() {
    [ -z "$root" ] || return 0
    # the unit asks for dialout, too, which not every distribution has
    for group in fastport dialout; do
        grep -q "^$group:" /etc/group || groupadd --system "$group" 2>/dev/null || addgroup -S "$group"
    done
    if ! grep -q '^fastport:' /etc/passwd; then
        useradd --system --gid fastport --home-dir /var/lib/fastport --no-create-home \
            --shell /sbin/nologin fastport 2>/dev/null ||
            adduser -S -D -H -h /var/lib/fastport -s /sbin/nologin -G fastport fastport
    fi
}

install_configuration() {
    mkdir -p "$root/etc/fastport"
    # it is the operator's from then on
    [ -e "$root/etc/fastport/gateway.toml" ] || cp "$here/etc/gateway.toml" "$root/etc/fastport/"
    if [ -z "$root" ]; then
        chgrp fastport /etc/fastport
        chmod 750 /etc/fastport
    fi
}

install_service() {
    if [ -z "$root" ] && ! has_systemd; then
        echo "no systemd here: have your init start this as the user fastport, and restart it when it ends:"
        echo "  STATE_DIRECTORY=/var/lib/fastport $prefix/bin/fastportd --config /etc/fastport/gateway.toml"
        echo "with /run/fastport and /var/lib/fastport made before, owned by fastport"
        return
    fi
    mkdir -p "$units" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d"
    sed "s#/usr/bin/fastportd#$prefix/bin/fastportd#" "$here/systemd/fastportd.service" >"$units/fastportd.service"
    cp "$here/systemd/fastport.sysusers" "$root/etc/sysusers.d/fastport.conf"
    cp "$here/systemd/fastport.tmpfiles" "$root/etc/tmpfiles.d/fastport.conf"
    if has_systemd; then
        systemctl daemon-reload
        systemctl enable --quiet fastportd
        # sockets and journals in memory outlive this
        systemctl restart fastportd
        echo "fastportd runs: systemctl status fastportd"
    else
        mkdir -p "$units/multi-user.target.wants"
        ln -sf ../fastportd.service "$units/multi-user.target.wants/fastportd.service"
    fi
}

uninstall() {
    if has_systemd; then
        systemctl disable --quiet --now fastportd 2>/dev/null || echo "the service was not there" >&2
        # from systemd 254 on a stop may leave its sockets open (FileDescriptorStorePreserve=yes)
        systemctl clean --what=fdstore fastportd 2>/dev/null || true
    fi
    rm -f "$units/fastportd.service" "$units/multi-user.target.wants/fastportd.service" \
        "$root/etc/sysusers.d/fastport.conf" "$root/etc/tmpfiles.d/fastport.conf" \
        "$root$prefix/bin/fastportd" "$root$prefix/bin/fastport"
    for page in "$here"/man/*; do
        rm -f "$root$prefix/share/man/man${page##*.}/${page##*/}"
    done
    if has_systemd; then systemctl daemon-reload; fi
}

main "$@"
