#!/usr/bin/env bash
# Say whether daemons that `make cross` left are larger than docs/footprint.md has them.
#
#   tools/check-size.sh dist/TARGET/SET…
#
# That is a warning, since another compiler makes some bytes more or less. With STRICT_SIZE=1, as `make sizes` has it, it
# is an error.
set -euo pipefail

status=0
for programs in "$@"; do
    case $programs in
        *aarch64-unknown-linux-gnu/minimal) most=1572864 ;;
        *aarch64-unknown-linux-gnu/edge) most=3670016 ;;
        *) continue ;;
    esac
    size=$(stat -c %s "$programs/fastportd")
    [ "$size" -gt $most ] || continue
    said="$programs: fastportd has $size bytes, $((size - most)) more than docs/footprint.md has it"
    if [ "${STRICT_SIZE:-}" = 1 ]; then status=1; else said="WARNING: $said; it runs all the same"; fi
    echo "$said" >&2
done
exit $status
