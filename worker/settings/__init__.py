"""All settings: one field per environment variable, in groups for the parts of the worker that use them.

Timings that no operator sets are in `worker.runtime.timing`.
"""

from worker.settings.description import environment_names, shown_default_and_choices
from worker.settings.groups import (
    EncodingSettings,
    HttpSettings,
    RedisSettings,
    ShutdownSettings,
    SpoolSettings,
    StoreSettings,
)
from worker.settings.loading import load, misspelt
from worker.settings.variables import MIB, Settings

__all__ = [
    "MIB",
    "EncodingSettings",
    "HttpSettings",
    "RedisSettings",
    "Settings",
    "ShutdownSettings",
    "SpoolSettings",
    "StoreSettings",
    "environment_names",
    "load",
    "misspelt",
    "shown_default_and_choices",
]
