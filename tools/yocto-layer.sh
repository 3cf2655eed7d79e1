#!/usr/bin/env bash
# Write the complete Yocto layer to FOLDER (dist/meta-fastport): yocto/meta-fastport, the crates of Cargo.lock, and the
# sources of the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."
layer=${1:-dist/meta-fastport}

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
recipe=recipes-connectivity/fastport
if [ ! -e "yocto/meta-fastport/$recipe/fastport_$version.bb" ]; then
    echo "yocto/meta-fastport/$recipe has no fastport_$version.bb: rename the recipe to the version of Cargo.toml"
    exit 1
fi
# a checkout may belong to another user, as in a container
if ! commit=$(git -c safe.directory='*' rev-parse --short=12 HEAD 2>/dev/null); then
    echo "the layer holds the sources of a commit: run this in a git checkout"
    exit 1
fi
rm -rf "$layer"
mkdir -p "$(dirname "$layer")"
cp -R yocto/meta-fastport "$layer"
cp LICENSE-MIT LICENSE-APACHE "$layer/"
tools/yocto-crates.sh >"$layer/$recipe/fastport-crates.inc"
# the same bytes for the same commit
git -c safe.directory='*' -c tar.umask=0022 archive --format=tar --prefix="fastport-$version/" HEAD |
    gzip -n -9 >"$layer/$recipe/files/fastport-$version.tar.gz"
echo "$layer: fastport $version of commit $commit, $(grep -c crate:// "$layer/$recipe/fastport-crates.inc") crates"
