"""Where a written file goes: under its name when it is complete, or to standard output."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT = "-"

PART_NAME = 60
"""Characters of a name that its unfinished file has too: each has up to 4 bytes, and a name at most 255."""


class ForwardOnly:
    """A file that can only be appended to, whatever it is: what sees no `seek` does not try."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Append bytes. Raises `OSError`."""
        return self._file.write(data)

    def flush(self) -> None:
        """Hand over what is held back. Raises `OSError`."""
        self._file.flush()


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends without error; `-` is standard output, without seeking.

    Raises:
        AudioFileError: it can't be written, or is there and no file.
    """
    if str(path) == STANDARD_OUTPUT:
        output = ForwardOnly(sys.stdout.buffer)
        with writing(path):
            yield cast("BinaryIO", output)
            output.flush()
        return
    with writing(path):
        special = path.exists() and not path.is_file()
    if special:  # a device would be replaced
        raise AudioFileError(f"{path} can't be written: it is there and no file")
    with whole_file(path) as file:
        yield file


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends without error; a link is followed.

    Until then it is in the same directory, under the same name or its start, with 8 random hex digits and `.part`. A
    killed process leaves that file behind.

    Raises:
        AudioFileError: it can't be written.
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            target.stat()  # so that an impossible name fails now, not at the end
        partial = target.with_name(f"{target.name[:PART_NAME]}.{uuid.uuid4().hex[:8]}.part")
        file = partial.open("xb")
    try:
        yield file
        with writing(path):
            file.close()
            partial.replace(target)
    finally:
        with suppress(OSError):
            file.close()
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures of a block that writes to a file into an `AudioFileError` that names the file."""
    try:
        yield
    except OSError as error:
        name = "standard output" if str(path) == STANDARD_OUTPUT else path
        raise AudioFileError(f"{name} can't be written: {error.strerror or error}") from error
