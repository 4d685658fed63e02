"""The pusher's side: audio goes into Redis in order and once, also while Redis is away, full or failing over.

Nothing here reads the streams.
"""

from codec.errors import BadEntry, WrongType
from worker.errors import BufferFull, NotSent, PushRefused, SettingsError, StreamError, WorkerError
from worker.producer.producer import Limits, Producer, Stats
from worker.producer.trouble import Cause, Trouble

__all__ = [
    "BadEntry",
    "BufferFull",
    "Cause",
    "Limits",
    "NotSent",
    "Producer",
    "PushRefused",
    "SettingsError",
    "Stats",
    "StreamError",
    "Trouble",
    "WorkerError",
    "WrongType",
]
