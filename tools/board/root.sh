#!/usr/bin/env bash
# Make what an arm64 Debian machine is booted from: target/board/KEY/{vmlinuz,modules.cpio,root.ext4}.
#
#   tools/board/root.sh          prints the folder; makes it if it is not there (5 to 7 minutes)
#
# The root file system is Debian's minimal one with systemd, D-Bus and udev, from Debian's packages; fastPort
# is not in it. KEY is made of this script and Debian's release, so a change makes it anew. The kernel is Debian's
# as it is: its disk driver and ext4 are modules, hence modules.cpio, the larger part of an initrd. The other
# one is made for each run, with tools/board/init and what is to be laid over the root.
#
# Needs root, and Debian's mmdebstrap, arch-test, qemu-user-static, cpio, kmod, e2fsprogs, zstd. While it runs
# the kernel starts arm64 programs with qemu-user (binfmt_misc), since packages configure themselves.
set -euo pipefail
cd "$(dirname "$0")/../.."

# the hardware watchdog, the disk and its file system, the network card
modules=(i6300esb virtio_pci virtio_blk ext4 crc32c_generic virtio_net)
. /etc/os-release
release=$VERSION_CODENAME
key=$(cat "tools/board/root.sh" <(echo "$release") | sha256sum | cut -c 1-12)
folder=$PWD/target/board/$key

main() {
    if ! [ -e "$folder/root.ext4" ]; then
        work=$(mktemp -d)
        trap clean_up EXIT
        chmod 755 "$work"
        understand_arm64
        install_root >&2
        fetch_kernel >&2
        install_modules
        settle
        write_modules
        write_disk
    fi
    echo "$folder"
}

clean_up() {
    [ -z "${registered:-}" ] || echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64
    rm -rf --one-file-system "$work"
}

understand_arm64() {
    local formats=/proc/sys/fs/binfmt_misc
    [ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats"
    [ -e "$formats/qemu-aarch64" ] && return
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$formats/register"
    registered=1
}

install_root() {
    mmdebstrap --quiet --arch=arm64 --variant=essential \
        --include=systemd,systemd-sysv,dbus,udev,libsystemd0,e2fsprogs \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' "$release" "$work/root"
}

# Unpacked beside the root, not installed: emulated shell scripts would make an initrd for longer than
# everything else here takes.
fetch_kernel() {
    local apt=$work/apt package
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    # lists of its own: what this machine may install stays as it is
    local options=(-o "APT::Architecture=arm64" -o "APT::Architectures=arm64" -o "Dir::State::Lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o "Dir::State::status=/dev/null" -o "APT::Sandbox::User=root")
    apt-get "${options[@]}" update -qq
    package=$(apt-cache "${options[@]}" depends linux-image-arm64 | awk '/Depends: linux-image/{print $2; exit}')
    (cd "$work" && apt-get "${options[@]}" download -qq "$package" busybox-static)
    dpkg-deb -x "$work"/linux-image*.deb "$work/kernel"
    dpkg-deb -x "$work"/busybox-static*.deb "$work/busybox"
}

# Of the kernel's modules those that are named above, with what they need; in the order in which they load.
install_modules() {
    local all
    version=$(basename "$work"/kernel/boot/vmlinuz-* | sed s/vmlinuz-//)
    all=$(find "$work/kernel" -type d -path "*/lib/modules/$version")
    depmod -b "${all%/lib/modules/*}" "$version"
    to=$work/root/usr/lib/modules/$version
    mkdir -p "$to"
    load_order=()
    local name
    for name in "${modules[@]}"; do
        mapfile -t -O ${#load_order[@]} load_order < <(
            awk -F: -v name="/$name.ko" 'substr($1, length($1) - length(name) + 1) == name {
                n = split($2, needs, " ")
                for (i = n; i > 0; i--) print needs[i]
                print $1
            }' "$all/modules.dep")
    done
    (cd "$all" && printf '%s\n' "${load_order[@]}" | sort -u | cpio -pdm --quiet "$to")
    cp "$all"/modules.{order,builtin,builtin.modinfo} "$to"
    depmod -b "$work/root" "$version"
}

# What a person would set on a board: its name, its address, and the hardware watchdog.
settle() {
    cd "$work/root"
    : >etc/machine-id
    echo board >etc/hostname
    sed -i 's/^root:[^:]*:/root::/' etc/shadow
    echo i6300esb >etc/modules-load.d/watchdog.conf
    mkdir -p etc/systemd/system.conf.d etc/systemd/journald.conf.d
    printf '[Manager]\nRuntimeWatchdogSec=20s\n' >etc/systemd/system.conf.d/watchdog.conf
    printf '[Journal]\nStorage=volatile\n' >etc/systemd/journald.conf.d/memory.conf
    printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >etc/systemd/network/wire.network
    ln -s /lib/systemd/system/systemd-networkd.service etc/systemd/system/multi-user.target.wants/
    # timers that would run beside what is measured, and consoles that nobody sits at
    local unit
    for unit in fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service \
        getty.target serial-getty@ttyAMA0.service; do
        ln -sf /dev/null "etc/systemd/system/$unit"
    done
    echo '/dev/vda / ext4 defaults 0 1' >etc/fstab
    rm -rf var/cache/apt var/lib/apt/lists usr/share/{locale,doc,man,info}
    cd "$OLDPWD"
}

write_modules() {
    local initrd=$work/initrd file n=100
    mkdir -p "$initrd"/{bin,dev,proc,modules,root}
    cp "$work/busybox/bin/busybox" "$initrd/bin/"
    local loaded=' '
    for file in "${load_order[@]}"; do
        # the watchdog's is systemd's, once it is up
        case $loaded in *" $file "*) continue ;; esac
        case $file in *i6300esb*) continue ;; esac
        loaded+="$file "
        cp "$to/$file" "$initrd/modules/$((n++))-$(basename "$file")"
    done
    mkdir -p "$folder"
    (cd "$initrd" && find . -print0 | cpio --null -o -H newc --quiet -R 0:0) >"$folder/modules.cpio"
    cp "$work"/kernel/boot/vmlinuz-* "$folder/vmlinuz"
}

write_disk() {
    truncate -s 1G "$work/root.ext4"
    mkfs.ext4 -q -L root -d "$work/root" "$work/root.ext4"
    # whole, or not there
    cp --sparse=always "$work/root.ext4" "$folder/root.ext4.new"
    mv "$folder/root.ext4.new" "$folder/root.ext4"
}

main
