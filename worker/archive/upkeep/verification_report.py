"""The verification report, with a line per object: a later run resumes where this one ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codec.names import FOLDER
from worker.archive.upkeep.verification import BlobVerdict, Fingerprint
from worker.errors import ReportError

BEGINNING = f'{{"name": "{FOLDER}/'
"""The beginning of every line, also of the last one, which a killed run may have left unfinished."""


def intact(path: Path) -> dict[Fingerprint, BlobVerdict]:
    """The objects that a report says are sound; damaged objects are verified again. A missing report is an empty one.

    Raises:
        ReportError: the file can't be read, or is not a verification report.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise ReportError(f"the report {path} can't be read: {error}") from error
    *lines, torn = text.split("\n")
    if not (torn.startswith(BEGINNING) or BEGINNING.startswith(torn)):
        raise _foreign(path)
    verdicts = [_parsed(line, path) for line in lines]
    return {verdict.fingerprint: verdict for verdict in verdicts if verdict.reason is None}


@contextmanager
def appending(path: Path) -> Iterator[Callable[[BlobVerdict], None]]:
    """Give a function that adds verdicts to a report; each is in the file when it returns.

    Raises:
        ReportError: the file can't be written.
    """
    try:
        _end_torn_line(path)
        with path.open("a", buffering=1) as file:
            yield lambda verdict: print(_line(verdict), file=file)
    except OSError as error:
        raise ReportError(f"the report {path} can't be written: {error.strerror}") from error


def _line(verdict: BlobVerdict) -> str:
    name, size, crc32c = verdict.fingerprint
    return json.dumps(
        {"name": name, "size": size, "crc32c": crc32c, "seconds": verdict.seconds, "reason": verdict.reason}
    )


def _parsed(line: str, path: Path) -> BlobVerdict:
    try:
        facts = json.loads(line)
        fingerprint = Fingerprint(facts["name"], facts["size"], facts["crc32c"])
        return BlobVerdict(fingerprint, facts["reason"], facts["seconds"], facts["seconds"])
    except (ValueError, LookupError, TypeError) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> ReportError:
    return ReportError(f"{path} is not a report of a verification; give another name")


def _end_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
