SUMMARY = "IoT gateway daemon: messages by topic, readings, a supervised uplink"
DESCRIPTION = "Sensors, programs and web pages exchange messages by topic; chosen topics go to a central \
instance, exactly once over outages."
HOMEPAGE = "https://fastport.example.org"
BUGTRACKER = "https://fastport.example.org/issues"
SECTION = "net"
LICENSE = "MIT OR Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=c342a5ccb57419a2fe4e8773f15c16a0 \
                    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# `make yocto-layer` puts the sources into the layer. From git instead:
#   FASTPORT_SOURCE = "git://HOST/fastport.git;protocol=https;branch=main"
#   SRCREV:pn-fastport = "..."
FASTPORT_SOURCE ?= "file://fastport-${PV}.tar.gz"
SRC_URI = "${FASTPORT_SOURCE} \
           file://gateway.toml"

# every crate of Cargo.lock, by its checksum: tools/yocto-crates.sh
require ${BPN}-crates.inc

inherit cargo pkgconfig systemd useradd features_check

REQUIRED_DISTRO_FEATURES = "systemd"

# one of minimal, edge, central; one of systemd (links libsystemd), sd-notify (does not)
PACKAGECONFIG ??= "edge systemd"
PACKAGECONFIG[minimal] = "--features minimal,,"
PACKAGECONFIG[edge] = "--features edge,,"
PACKAGECONFIG[central] = "--features central,,"
PACKAGECONFIG[systemd] = "--features systemd,,systemd"
PACKAGECONFIG[sd-notify] = "--features sd-notify,,"
PACKAGECONFIG_CONFARGS:prepend = "--no-default-features "

# the workspace holds more than the two programs; its settings lie where cargo would not look
CARGO_BUILD_FLAGS += "--package fastport --bins --config ${S}/.cargo/config.toml"
# packages are stripped by bitbake, and a file that is already is an error to it
export CARGO_PROFILE_RELEASE_STRIP = "none"

# the board's name in `fastportd --board`; empty: none. The table is of a variable of its own: an override for a
# machine beats `FASTPORT_BOARD:pn-fastport` of a local.conf, since OVERRIDES names machines after recipes.
FASTPORT_BOARD ?= "${FASTPORT_BOARD_DEFAULT}"
FASTPORT_BOARD_DEFAULT ?= ""
FASTPORT_BOARD_DEFAULT:beaglebone-yocto ?= "beaglebone-black"
FASTPORT_BOARD_DEFAULT:qemuarm64 ?= "qemu-virt-aarch64"
FASTPORT_BOARD_DEFAULT:raspberrypi0-wifi ?= "raspberry-pi-zero-w"
FASTPORT_BOARD_DEFAULT:raspberrypi0-2w-64 ?= "raspberry-pi-zero-2w"
FASTPORT_BOARD_DEFAULT:raspberrypi3-64 ?= "raspberry-pi-3"
FASTPORT_BOARD_DEFAULT:raspberrypi4-64 ?= "raspberry-pi-4"
FASTPORT_BOARD_DEFAULT:raspberrypi5 ?= "raspberry-pi-5"

SYSTEMD_SERVICE:${PN} = "fastportd.service"
SYSTEMD_AUTO_ENABLE = "enable"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system fastport"
USERADD_PARAM:${PN} = "--system --gid fastport --groups dialout --no-create-home \
                       --home-dir ${localstatedir}/lib/fastport --shell ${base_sbindir}/nologin fastport"

do_install:append() {
    install -Dm0644 ${S}/systemd/fastportd.service ${D}${systemd_system_unitdir}/fastportd.service
    sed -i 's|/usr/bin/|${bindir}/|' ${D}${systemd_system_unitdir}/fastportd.service
    install -Dm0644 ${S}/systemd/fastport.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/fastport.conf
    install -Dm0640 ${UNPACKDIR}/gateway.toml ${D}${sysconfdir}/fastport/gateway.toml
    chgrp fastport ${D}${sysconfdir}/fastport ${D}${sysconfdir}/fastport/gateway.toml
    chmod 0750 ${D}${sysconfdir}/fastport
    if [ -n "${FASTPORT_BOARD}" ]; then
        install -d ${D}${systemd_system_unitdir}/fastportd.service.d
        printf '[Service]\nEnvironment=FASTPORT_BOARD=%s\n' "${FASTPORT_BOARD}" \
            > ${D}${systemd_system_unitdir}/fastportd.service.d/board.conf
    fi

    # libraries in Rust have no binary form to install: these are sources, for programs of one's own
    ${S}/yocto/install-crates.sh ${D}${datadir}/fastport/crates
}

PACKAGES =+ "${PN}-tool ${PN}-firmware-client"

SUMMARY:${PN}-tool = "Command-line tool for fastPort"
FILES:${PN}-tool = "${bindir}/fastport"

SUMMARY:${PN}-dev = "fastPort client library for tokio, as source"
FILES:${PN}-dev += "${datadir}/fastport/crates/fastport-client"

# whom an uplink over TLS trusts without a file of its own
RRECOMMENDS:${PN} += "ca-certificates"
RDEPENDS:${PN}-dev += "${PN}-firmware-client"

SUMMARY:${PN}-firmware-client = "fastPort for microcontrollers: wire format, client and sealing, no_std, as source"
FILES:${PN}-firmware-client = "${datadir}/fastport/crates/Cargo.toml \
                               ${datadir}/fastport/crates/fastport-wire \
                               ${datadir}/fastport/crates/fastport-core \
                               ${datadir}/fastport/crates/fastport-seal"

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d"
CONFFILES:${PN} += "${sysconfdir}/fastport/gateway.toml"
