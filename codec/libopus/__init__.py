"""Finds libopus and binds it through opuslib: the library inside the opuslib-next-bundled wheel, else the system's.

Loading waits for the first use, so that everything that needs no Opus works without the library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from codec.errors import LibopusMissing
from codec.libopus.builds import PORTABLE, fitting_builds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

VERSION: str  # for example "libopus 1.6.1"; reading it loads the library

BUNDLED_PACKAGE = "opuslib_next"
BUNDLED_DISTRIBUTION = "opuslib-next-bundled"
# The wheel is built without version data, so its library calls itself "unknown". These are the tags to which the
# wheel's source repository pins its copy of xiph/opus, release by release:
BUNDLED_VERSIONS = {"0.1.1": "libopus 1.6.1"}
# Where find_library can't look (it needs ldconfig or a compiler), the loader may still know these names.
SYSTEM_NAMES = ("libopus.so.0", "libopus.0.dylib", "opus.dll")

CArg: TypeAlias = Any  # a result of ctypes.byref, or another object of ctypes

_loading = threading.RLock()


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded libopus, with the functions that audio passes through bound for speed."""

    version: str
    origin: Literal["bundled", "system"]
    path: str
    build: str  # "portable", or the level of processors that it is built for
    encoder: Any  # the module opuslib.api.encoder
    decoder: Any  # the module opuslib.api.decoder
    ctl: Any  # the module opuslib.api.ctl
    error: type[Exception]  # what these modules raise; its attribute `code` is libopus' own
    encode: Callable[[CArg, CArg, int, CArg, int], int]  # state, PCM, samples, output, its size -> packet's size
    decode: Callable[[CArg, bytes, int, CArg, int, int], int]  # state, packet, its size, output, samples, FEC -> count
    describe: Callable[[int], str]  # an error's code -> libopus' words for it


def library() -> Library:
    """The library in use, loaded by the first call.

    Raises:
        LibopusMissing: neither the bundled library nor the system's can be loaded.
    """
    with _loading:
        return _load()


def __getattr__(name: str) -> str:
    if name == "VERSION":
        return library().version
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _load() -> Library:
    bundled = _bundled_builds()
    binding = _import_opuslib(_loadable_path(bundled))
    handle = binding.libopus
    encoder = importlib.import_module("opuslib.api.encoder")
    # The fixed part of a variadic function's prototype: without it, Apple's arm64 passes the rest wrongly.
    encoder.libopus_ctl.argtypes = (encoder.EncoderPointer, ctypes.c_int)
    info = importlib.import_module("opuslib.api.info")
    origin: Literal["bundled", "system"] = "bundled" if handle._name in bundled else "system"  # noqa: SLF001 -- CDLL has no public name for its path
    return Library(
        version=_version(info.get_version_string().decode(), origin),
        origin=origin,
        path=handle._name,  # noqa: SLF001
        build=bundled.get(handle._name, PORTABLE),  # noqa: SLF001
        encoder=encoder,
        decoder=importlib.import_module("opuslib.api.decoder"),
        ctl=importlib.import_module("opuslib.api.ctl"),
        error=importlib.import_module("opuslib.exceptions").OpusError,
        encode=_function(handle, "opus_encode"),
        decode=_function(handle, "opus_decode"),
        describe=lambda code: str(info.strerror(code).decode()),
    )


def _bundled_builds() -> Mapping[str, str]:
    """Names by path, the best first."""
    # Only find the wheel's package: an import would load a second binding.
    spec = find_spec(BUNDLED_PACKAGE)
    folders = spec.submodule_search_locations or () if spec else ()
    return {str(path): name for folder in folders for name, path in fitting_builds(Path(folder, "_native"))}


def _loadable_path(bundled: Iterable[str]) -> str:
    for path in _candidates(bundled):
        try:
            ctypes.CDLL(path)
        except OSError:
            continue
        return path
    raise LibopusMissing(
        f"libopus is missing: install the Python package {BUNDLED_DISTRIBUTION}, or the system's library "
        "(Debian and Ubuntu: libopus0, Alpine and Homebrew: opus)"
    )


def _candidates(bundled: Iterable[str]) -> Iterator[str]:
    yield from bundled
    found = ctypes.util.find_library("opus")
    if found:
        yield found
    yield from SYSTEM_NAMES


def _import_opuslib(path: str) -> Any:  # noqa: ANN401 -- a module without types
    with _found_library(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # opuslib compares integers with "is"
        return importlib.import_module("opuslib.api")


@contextmanager
def _found_library(path: str) -> Iterator[None]:
    # opuslib offers no other way: at its import it loads the library that ctypes.util.find_library("opus") names.
    original = ctypes.util.find_library

    def find_library(name: str) -> str | None:
        return path if name == "opus" else original(name)

    ctypes.util.find_library = find_library
    try:
        yield
    finally:
        ctypes.util.find_library = original


def _version(answer: str, origin: str) -> str:
    if origin == "system" or not answer.endswith("unknown"):
        return answer
    try:
        release = metadata.version(BUNDLED_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return answer
    return BUNDLED_VERSIONS.get(release, f"{answer} ({BUNDLED_DISTRIBUTION} {release})")


def _function(handle: ctypes.CDLL, name: str) -> Callable[..., int]:
    """A function without a prototype: its arguments are passed unchanged, pointers only by `byref` or as bytes.

    Checking and converting five arguments for every frame takes a third of the call.
    """
    function = handle[name]  # indexing makes a new object, so opuslib's prototypes stay as they are
    function.restype = ctypes.c_int32
    return function
