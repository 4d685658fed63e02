"""The pusher's side: audio goes into Redis in order and once, also while Redis is away, full or failing over.

Nothing here reads the streams.
"""

from worker.errors import BufferFull, NotSent, PushRefused, SettingsError
from worker.producer.producer import Limits, Producer, Stats
from worker.producer.sender import Cause, Trouble

__all__ = [
    "BufferFull",
    "Cause",
    "Limits",
    "NotSent",
    "Producer",
    "PushRefused",
    "SettingsError",
    "Stats",
    "Trouble",
]
