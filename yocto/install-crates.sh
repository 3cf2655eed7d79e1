#!/bin/sh
# Copy the crates that programs of one's own are built with to FOLDER, as sources: do_install of the recipe calls this.
# Tests and benchmarks stay behind, and so do the manifests' entries for them: cargo refuses a target without a file.
set -eu
sources=$(dirname "$0")/..
folder=$1

mkdir -p "$folder"
for crate in fastport-wire fastport-core fastport-seal fastport-client; do
    cp -R --no-preserve=ownership "$sources/crates/$crate" "$folder/"
    rm -rf "$folder/$crate/tests" "$folder/$crate/benches" "$folder/$crate/proptest-regressions"
    sed -i -e '/^\[\[test\]\]$/,/^$/d' -e '/^\[\[bench\]\]$/,/^$/d' "$folder/$crate/Cargo.toml"
done
install -m0644 "$sources/yocto/crates.toml" "$folder/Cargo.toml"
