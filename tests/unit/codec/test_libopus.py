from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from codec import libopus
from codec.errors import LibopusMissing

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_BUNDLED = """
import ctypes.util
from codec import libopus
libopus.BUNDLED_PACKAGE = "no_such_package"
libopus.SYSTEM_NAMES = ()
ctypes.util.find_library = lambda name: {found!r}
"""


def python(code: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_bundled_library_comes_first_and_is_fast_enough_to_be_worth_it() -> None:
    library = libopus.library()
    assert library.origin == "bundled"
    version = re.fullmatch(r"libopus (\d+)\.(\d+)(\.\d+)?", libopus.VERSION)
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (1, 5)


def test_unlisted_release_of_the_wheel_is_named_instead_of_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libopus, "BUNDLED_VERSIONS", {})
    assert re.fullmatch(
        r"libopus unknown \(opuslib-next-bundled [\d.]+\)", libopus._version("libopus unknown", "bundled")
    )


@pytest.mark.parametrize("origin", ["bundled", "system"])
def test_library_that_knows_its_version_is_believed(origin: str) -> None:
    assert libopus._version("libopus 9.9", origin) == "libopus 9.9"


def test_system_library_is_used_where_none_is_bundled() -> None:
    code = WITHOUT_BUNDLED.format(found=libopus.library().path)
    assert python(code + "print(libopus.library().origin, libopus.VERSION)") == "system libopus unknown"


def test_unusable_bundled_library_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libopus.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr("ctypes.util.find_library", lambda _: libopus.library().path)
    assert libopus._loadable_path([str(broken)]) == libopus.library().path


def test_missing_library_is_one_sentence_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    monkeypatch.setattr(libopus, "SYSTEM_NAMES", ("libopus-that-is-nowhere.so",))
    with pytest.raises(LibopusMissing, match=r"^libopus is missing: install [^\n]*libopus0[^\n]*$"):
        libopus._loadable_path([])


def test_missing_library_hurts_only_where_opus_is_needed() -> None:
    code = WITHOUT_BUNDLED.format(found=None) + (
        "from codec import blob, opus, errors\n"
        "print(blob.decode(b'abcd', 'chunks/u/c/1.000.bin', None, secrets=[]).samples)\n"
        "try: opus.Encoder(16000, complexity=7)\n"
        "except errors.LibopusMissing: print('missing')\n"
    )
    assert python(code) == "2\nmissing"


@pytest.mark.slow
def test_first_import_is_silent_where_warnings_are_errors(tmp_path: Path) -> None:
    """Without compiled files Python compiles opuslib anew, and would warn."""
    assert python("from codec.libopus import VERSION; print(VERSION)", PYTHONPYCACHEPREFIX=str(tmp_path))


def test_looking_for_libraries_works_as_before_afterwards() -> None:
    code = "import ctypes.util; before = ctypes.util.find_library; from codec import libopus; libopus.library()\n"
    assert python(code + "print(ctypes.util.find_library is before)") == "True"


def test_module_has_no_other_computed_names() -> None:
    with pytest.raises(AttributeError, match="ANYTHING"):
        _ = libopus.ANYTHING
