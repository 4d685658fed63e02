"""The backend's side: done events of all partitions, read on from where the backend has left off.

Nothing here reads audio, and nothing changes anything in Redis.

async with EventReader("redis://localhost:6379/0", positions=saved) as reader:
    for received in await reader.read():
        record(received.event)
        save(received.partition, received.id)
"""

from codec.errors import WrongType
from worker.errors import SettingsError, WorkerError
from worker.events.reader import EventReader, Polling, ReceivedEvent
from worker.model.done_event import DoneEvent

__all__ = [
    "DoneEvent",
    "EventReader",
    "Polling",
    "ReceivedEvent",
    "SettingsError",
    "WorkerError",
    "WrongType",
]
