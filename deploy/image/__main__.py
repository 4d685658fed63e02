"""Builds the image of deploy/Dockerfile without a container engine, starts it, and says what is in it.

    sudo make image                                                        # on a base made by debootstrap
    sudo make image ARGS="--base debian:trixie-slim --keep /var/tmp/images"

buildah carries out the Dockerfile in chroots. Then the image's files start as its user on a read-only root, and store a
chunk that is pushed into a Redis of their own. The image (an OCI archive) and the list of its parts (CycloneDX) are in
dist/ then. What only an engine does is not shown: the limits of a container.

Needs root, buildah, crun and unshare; for its own base also debootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from audio_batch_worker import __version__
from builder import TOP, Builder
from contents import Image, parts_list
from programs import Failed, run, say
from start import Started, check

DIST = TOP / "dist"
ARCHIVE, PARTS = DIST / "image.tar", DIST / "image.cdx.json"


def main() -> None:
    """Build in a temporary directory, or in one that stays for the next time."""
    parser = argparse.ArgumentParser(prog="make image", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", help="the image to begin with, in place of a debootstrapped Debian")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="build here, and leave the base for the next time"
    )
    parser.add_argument(
        "--driver", choices=["overlay", "vfs"], default="overlay", help="vfs is slow, and works anywhere"
    )
    parser.add_argument("--source", default="", help="the address of the repository, for the label")
    given = parser.parse_args()
    missing = [
        name
        for name in ("buildah", "crun", "unshare", *([] if given.base else ["debootstrap"]))
        if not shutil.which(name)
    ]
    if os.geteuid() != 0 or missing:
        sys.exit(f"make image needs root and the Debian packages buildah, crun and debootstrap; missing: {missing}")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="image-", dir="/var/tmp") as temporary,
            closing(Builder(given.keep or Path(temporary), given.driver)) as builder,
        ):
            build(builder, given.base, given.source)
    except Failed as error:
        sys.exit(str(error))


def build(builder: Builder, base: str | None, source: str) -> None:
    """Build, start, and tell. Raises `Failed`."""
    began = time.monotonic()
    revision = run("git", "-C", TOP, "rev-parse", "HEAD").strip()
    told = {"VERSION": __version__, "REVISION": revision, "SOURCE": source}
    builder.build(base or builder.base(), told)
    DIST.mkdir(exist_ok=True)
    builder.save(ARCHIVE)
    image = Image.read(ARCHIVE)
    image.check_labels(told)
    say(f"built in {time.monotonic() - began:.0f} s: {ARCHIVE.relative_to(TOP)}")
    for line in image.report():
        say(f"  {line}")
    with builder.root() as root:
        size = run("du", "-sxm", root).split()[0]
        say(f"  {size} MB unpacked")
        started = Started(root, image.config)
        check(started)
        parts = parts_list(started, __version__)
    PARTS.write_text(json.dumps(parts, indent=1) + "\n")
    say(f"{len(parts['components'])} parts: {PARTS.relative_to(TOP)}")


if __name__ == "__main__":
    main()
