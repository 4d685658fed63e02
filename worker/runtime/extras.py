"""The extras of the package: which modules each of them brings, and the sentence for those who need one."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from worker.errors import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = "audio-batch-worker"

MODULES = {
    "audio": {"av", "numpy", "soxr"},
    "otel": {"opentelemetry"},
    "worker": {
        "aiohttp",
        "cryptography",
        "dotenv",
        "gcloud",
        "jwt",
        "opuslib",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "rich",
        "stamina",
        "tenacity",
        "typer",
    },
}
"""Extras → the modules that our code imports from what they install."""


@contextmanager
def extra_imports() -> Iterator[None]:
    """For imports of what an extra brings.

    Raises:
        ExtraMissing: the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = extra_of(error)
        if extra is None:
            raise
        raise ExtraMissing(missing(extra, error.name)) from error


def require(extra: str) -> None:
    """Look for all modules of an extra without importing them, before work that would end half done.

    Raises:
        ExtraMissing: the extra is not installed.
    """
    for module in sorted(MODULES[extra]):
        if find_spec(module) is None:
            raise ExtraMissing(missing(extra, module))


def extra_of(error: ModuleNotFoundError) -> str | None:
    """The extra that brings the module that was not found; None if none does."""
    module = (error.name or "").partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if module in modules), None)


def missing(extra: str, module: str | None) -> str:
    """The sentence that tells what to install."""
    return f"the Python package {module} is missing, which this needs: pip install '{DISTRIBUTION}[{extra}]'"
