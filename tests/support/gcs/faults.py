"""Faults and gates of the Cloud Storage test server: what shall go wrong, and where a request shall wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, get_args

Action = Literal[
    "status",  # an error reply, nothing done
    "reset",  # the connection is reset, nothing done
    "stall",  # no reply, nothing done, until the client gives up
    "drop_reply",  # done, then the connection is reset instead of a reply
    "corrupt",  # one bit of the data is flipped on its way, either way
    "keep_other_bytes",  # an upload passes its checks and other bytes are kept
    "truncate",  # a download ends in the middle
    "garbage",  # 200 and a page of HTML
    "other_json",  # 200 and `body`, nothing done
    "answer",  # `status`, `headers` and `body` (JSON, or text as it is), nothing done
    "misdescribe",  # done, and the description of the object has the values of `changes` in place of its own
    "latency",  # `seconds` go by, then all is well
]
Stage = Literal["request", "commit", "reply"]  # before the body is read; before, and after, the change is made


REFUSALS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "forbidden": {
            "status": 403,
            "reason": "forbidden",
            "message": "sa@project.iam.gserviceaccount.com does not have storage.objects access to the object.",
        },
        "retention": {
            "status": 403,
            "reason": "retentionPolicyNotMet",
            "message": "Object 'b/o' is subject to bucket's retention policy or object retention and cannot be deleted"
            " or overwritten until 2036-01-01T00:00:00Z",
        },
        "temporary hold": {
            "status": 403,
            "reason": "objectUnderActiveHold",
            "message": "Object 'b/o' is under active Temporary hold and cannot be deleted, overwritten or archived"
            " until hold is removed.",
        },
        "event hold": {
            "status": 403,
            "reason": "forbidden",
            "message": "Object 'b/o' is under active Event-Based hold and cannot be deleted, overwritten or archived"
            " until hold is removed.",
        },
        "billing": {
            "status": 403,
            "reason": "accountDisabled",
            "message": "The billing account for the owning project is disabled in state absent",
        },
        "closed billing": {
            "status": 403,
            "reason": "userProjectAccountProblem",
            "message": "The project to be billed is associated with a closed billing account.",
        },
        "requester pays": {
            "status": 400,
            "reason": "required",
            "message": "Bucket is requester pays bucket but no user project provided.",
        },
        "no user project": {
            "status": 400,
            "reason": "userProjectMissing",
            "message": "Bucket is a requester pays bucket but no user project provided.",
        },
    }
)
"""What Cloud Storage answers when a request may not be done, as `Fault`'s fields."""


@dataclass
class Fault:
    """One thing that goes wrong `times` times, with requests whose kind and object name match the two patterns.

    `done` says that a request is carried out all the same before the wrong answer is given.
    """

    match: str
    action: Action = "status"
    times: int = 1
    name: str = "*"
    status: int = 503
    reason: str = "backendError"
    message: str = "Backend Error"
    retry_after: str | float | None = None
    seconds: float = 0.0
    body: object = field(default_factory=list)
    changes: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    hits: int = 0

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise ValueError(f"unknown action {self.action!r}")

    def applies(self, kind: str, name: str) -> bool:
        return self.hits < self.times and fnmatchcase(kind, self.match) and fnmatchcase(name, self.name)


@dataclass
class Gate:
    """Holds the requests that match at one stage until it is opened."""

    match: str
    stage: Stage = "commit"
    name: str = "*"
    held: int = 0
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage):
            raise ValueError(f"unknown stage {self.stage!r}")

    def open(self) -> None:
        """Let all go on, those that are still to come too."""
        self._opened.set()

    async def reached(self, requests: int = 1) -> None:
        """Return when so many requests have come to this gate."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.held >= requests)

    async def pass_through(self, kind: str, name: str) -> None:
        if self._opened.is_set() or not (fnmatchcase(kind, self.match) and fnmatchcase(name, self.name)):
            return
        async with self._arrival:
            self.held += 1
            self._arrival.notify_all()
        await self._opened.wait()


@dataclass
class Script:
    """The faults and gates in force, and how many requests have met a fault so far, by its action."""

    faults: list[Fault] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    hits: Counter[Action] = field(default_factory=Counter)

    def take(self, kind: str, name: str) -> Fault | None:
        """The fault that this request meets, if any; the oldest first."""
        for fault in self.faults:
            if fault.applies(kind, name):
                fault.hits += 1
                self.hits[fault.action] += 1
                return fault
        return None

    async def wait(self, stage: Stage, kind: str, name: str) -> None:
        for gate in [gate for gate in self.gates if gate.stage == stage]:
            await gate.pass_through(kind, name)

    def clear(self) -> None:
        """Forget all faults and open all gates."""
        for gate in self.gates:
            gate.open()
        self.gates.clear()
        self.faults.clear()
