#!/usr/bin/env python3
"""Read a layer's recipe with bitbake's own parser, without openembedded-core, and print variables as JSON.

    yocto-parse.py LAYER [--machine NAME] [--local LINE]... [--downloads FOLDER] VARIABLE...

The parser is that of bitbake in the Python package `bitbake-setup`. What openembedded-core brings is not there: the
classes that the recipe inherits are empty, and of bitbake.conf there are the paths and OVERRIDES, whose order is
openembedded-core's. So this shows what the recipe itself says: that each line of it is understood and
each shell function is well-formed, what it sets for a machine and beside a local.conf of those lines, and that the
fetcher finds each local file and a checksum for everything else. With a folder of downloads it also compares every
crate there with its checksum, and writes the number of those as `verified`; --unpack lays all out as do_unpack does.
"""

import argparse
import glob
import json
import logging
import os
import sys
import tempfile
import types

# the package leaves the client of the hash server out, which parsing never asks
for name in ("hashserv", "hashserv.client"):
    sys.modules.setdefault(name, types.ModuleType(name))

import bb.codeparser
import bb.data
import bb.fetch2
import bb.parse
import bb.siggen

# what openembedded-core's bitbake.conf has of what the recipe uses
CONF = """
PN = "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[0] or 'defaultpkgname'}"
PV = "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[1] or '1.0'}"
BPN = "${PN}"
BP = "${BPN}-${PV}"
TARGET_OS = "linux"
TRANSLATED_TARGET_ARCH = "aarch64"
MACHINEOVERRIDES ?= "${MACHINE}"
OVERRIDES = "${TARGET_OS}:${TRANSLATED_TARGET_ARCH}:pn-${PN}:${MACHINEOVERRIDES}:class-target:forcevariable"
FILESPATH = "${@os.path.dirname(d.getVar('FILE'))}/files"
WORKDIR = "${TMPDIR}/work"
UNPACKDIR ?= "${WORKDIR}/sources"
S ?= "${UNPACKDIR}/${BP}"
D ?= "${WORKDIR}/image"
bindir = "/usr/bin"
base_sbindir = "/usr/sbin"
datadir = "/usr/share"
sysconfdir = "/etc"
localstatedir = "/var"
nonarch_libdir = "/usr/lib"
systemd_system_unitdir = "/usr/lib/systemd/system"
PATH = "${@os.environ['PATH']}"
BB_NO_NETWORK = "1"
BB_STRICT_CHECKSUM = "1"
"""


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def inherited(recipe):
    """The classes that the recipe names."""
    with open(recipe, encoding="utf-8") as file:
        return [name for line in file if line.startswith("inherit ") for name in line.split()[1:]]


def loaded(layer, work, machine, local):
    """The recipe of the layer, as the datastore that bitbake makes of it."""
    data = bb.data.init()
    bb.parse.siggen = bb.siggen.init(data)
    os.mkdir(os.path.join(work, "cache"))
    bb.codeparser.parser_cache_init(os.path.join(work, "cache"))
    data.setVar("TMPDIR", work)
    data.setVar("BBPATH", work)
    data.setVar("MACHINE", machine)
    data.setVar("LAYERDIR", layer)
    data = bb.parse.handle(os.path.join(layer, "conf/layer.conf"), data, True)
    data.expandVarref("LAYERDIR")
    data.delVar("LAYERDIR")
    write(os.path.join(work, "conf/local.conf"), "\n".join(local) + "\n")
    write(os.path.join(work, "conf/bitbake.conf"), CONF)
    for name in ("local.conf", "bitbake.conf"):
        data = bb.parse.handle(os.path.join(work, "conf", name), data, True)

    patterns = data.getVar("BBFILES").split()
    recipes = [path for pattern in patterns for path in glob.glob(pattern)]
    if len(recipes) != 1:
        sys.exit(f"{layer}: BBFILES of conf/layer.conf finds {recipes}, not one recipe")
    for name in inherited(recipes[0]):
        write(os.path.join(work, "classes", f"{name}.bbclass"), "")
    data.setVar("__bbclasstype", "recipe")
    return bb.parse.handle(recipes[0], data)[""]


def parsed_functions(data, logger):
    """The names of the recipe's functions in shell, each of which bitbake's parser of shell has taken."""
    functions = [name for name in data.keys() if data.getVarFlag(name, "func") and not data.getVarFlag(name, "python")]
    # what is appended to a function of a class that is empty here is all that there is of it
    names = sorted({name.split(":")[0] for name in functions})
    for name in names:
        bb.codeparser.ShellParser(name, logger).parse_shell(data.getVar(name))
    return names


def fetched(data, downloads, folder):
    """What the fetcher makes of SRC_URI: how many there are of each kind, and how many of them were compared."""
    data.setVar("DL_DIR", downloads or os.path.join(data.getVar("TMPDIR"), "downloads"))
    fetcher = bb.fetch2.Fetch([], data)
    kinds, verified = {}, 0
    for uri, source in fetcher.ud.items():
        kinds[source.type] = kinds.get(source.type, 0) + 1
        source.setup_localpath(data)
        if source.type == "file":
            if not os.path.exists(source.localpath):
                sys.exit(f"{uri}: not in the layer")
        elif not source.sha256_expected:
            sys.exit(f"{uri}: has no sha256 in the recipe")
        elif downloads and os.path.exists(source.localpath):
            bb.fetch2.verify_checksum(source, data)
            verified += 1
    if folder:
        os.makedirs(folder, exist_ok=True)
        fetcher.download()
        fetcher.unpack(folder)
    return {"kinds": kinds, "verified": verified}


class Said(logging.Handler):
    """Keeps what bitbake warns of: here every warning is an error."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("layer", type=os.path.abspath)
    words.add_argument("--machine", default="qemuarm64")
    words.add_argument("--local", action="append", default=[], help="a line of local.conf")
    words.add_argument("--downloads", type=os.path.abspath, help="a folder with NAME-VERSION.crate")
    words.add_argument("--unpack", type=os.path.abspath, help="a folder for the sources; with --downloads")
    words.add_argument("variables", nargs="*")
    asked = words.parse_intermixed_args()

    said = Said()
    logger = logging.getLogger("BitBake")
    logger.addHandler(said)
    with tempfile.TemporaryDirectory() as work:
        data = loaded(asked.layer, work, asked.machine, asked.local)
        found = {
            "bitbake": bb.__version__,
            "variables": {name: data.getVar(name) for name in asked.variables},
            "functions": parsed_functions(data, logger),
            "sources": fetched(data, asked.downloads, asked.unpack),
        }
    if said.lines:
        sys.exit("bitbake warns:\n" + "\n".join(said.lines))
    print(json.dumps(found, indent=2))


main()
