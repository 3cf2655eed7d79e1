# What the scripts for other machines know of each target; to be read by them (`.`), not run.
#
# about TARGET sets
#   name     the target as it stands in names of variables
#   triplet  as Debian calls it: of its compiler, its folders
#   debian   Debian's architecture
#   qemu     the emulator, of the package qemu-user-static
#   cpu      the processor to be emulated: the least that the target is for; empty: any
# and ends the script if there is no such target.

about() {
    name=${1//-/_} triplet='' debian='' qemu='' cpu=''
    case $1 in
        aarch64-unknown-linux-*)
            triplet=aarch64-linux-gnu debian=arm64 qemu=qemu-aarch64-static cpu=cortex-a53 ;;
        armv7-unknown-linux-*eabihf)
            triplet=arm-linux-gnueabihf debian=armhf qemu=qemu-arm-static cpu=cortex-a7 ;;
        arm-unknown-linux-musleabihf)
            triplet=arm-linux-gnueabihf debian=armhf qemu=qemu-arm-static cpu=arm1176 ;;
        riscv64gc-unknown-linux-gnu)
            triplet=riscv64-linux-gnu debian=riscv64 qemu=qemu-riscv64-static ;;
        *)
            echo "no target $1 here; tools/cross.sh lists those that there are" >&2
            exit 64 ;;
    esac
    tools_folder=${CARGO_TARGET_DIR:-$PWD/target}/cross-tools
    zig=$tools_folder/zig
}

# What links for the target that about() was asked for: gcc or zig.
linker() { if [ -n "${GLIBC:-}" ] || [[ $name = *musl* ]]; then echo zig; else echo gcc; fi; }

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }

# A compiler that has the source of the standard library; none: fails.
rustc_with_source() {
    local rustc
    for rustc in rustc /usr/bin/rustc; do
        command -v "$rustc" >/dev/null || continue
        if [ -f "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]; then
            echo "$rustc"
            return
        fi
    done
    return 1
}

# Where libsystemd for the target was unpacked; empty: it is built without.
libsystemd() {
    local folder=$tools_folder/libsystemd-$debian
    if [[ $1 = *gnu* ]] && [ -e "$folder/usr/lib/$triplet/libsystemd.so" ]; then echo "$folder"; fi
}

# Where Debian 11's C library and libsystemd for the target were unpacked, if these are wanted; empty: there are none.
debian_11() {
    local folder=$tools_folder/debian-11-$debian
    # what is unpacked last
    if [ "${GLIBC:-}" = 2.31 ] && [ -e "$folder/usr/lib/$triplet/libzstd.so.1" ]; then echo "$folder"; fi
}

# When the source was last changed; of an archive without history: when its log of changes was written.
source_date() { git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md; }
