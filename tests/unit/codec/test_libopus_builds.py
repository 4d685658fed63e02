"""Which build of libopus is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.libopus.builds import PORTABLE, X86_64_V3, X86_64_V3_FLAGS, fitting_builds

FLAGS = " ".join(sorted(X86_64_V3_FLAGS | {"fpu", "sse2"}))


@pytest.fixture
def native(tmp_path: Path) -> Path:
    (tmp_path / X86_64_V3).mkdir()
    for path in ("libopus.so", f"{X86_64_V3}/libopus.so"):
        (tmp_path / path).touch()
    return tmp_path


def fitting(folder: Path, cpu_facts: str) -> list[str]:
    facts = folder / "cpuinfo"
    facts.write_text(cpu_facts)
    return [name for name, _ in fitting_builds(folder, facts)]


def test_newer_processor_takes_its_build_and_has_the_portable_one_as_well(native: Path) -> None:
    assert fitting(native, f"processor\t: 0\nflags\t\t: {FLAGS}\nbugs\t\t:\n") == [X86_64_V3, PORTABLE]


@pytest.mark.parametrize("flag", sorted(X86_64_V3_FLAGS))
def test_processor_that_lacks_one_flag_takes_the_portable_build(native: Path, flag: str) -> None:
    lesser = " ".join(word for word in FLAGS.split() if word != flag)
    assert fitting(native, f"flags\t\t: {lesser}\n") == [PORTABLE]


def test_other_kinds_of_processors_take_the_portable_build(native: Path) -> None:
    assert fitting(native, f"Features\t: {FLAGS}\n") == [PORTABLE]


def test_system_that_does_not_tell_its_processor_takes_the_portable_build(native: Path) -> None:
    assert [name for name, _ in fitting_builds(native, native / "missing")] == [PORTABLE]


def test_wheel_alone_has_the_portable_build(native: Path) -> None:
    (native / X86_64_V3 / "libopus.so").unlink()
    assert fitting(native, f"flags\t\t: {FLAGS}\n") == [PORTABLE]


def test_library_for_another_system_is_no_build_for_newer_processors(tmp_path: Path) -> None:
    (tmp_path / "libopus.dylib").touch()
    assert list(fitting_builds(tmp_path, tmp_path / "missing")) == [(PORTABLE, tmp_path / "libopus.dylib")]
