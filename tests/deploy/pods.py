"""A Deployment without a cluster: its pods are processes on this machine, replaced by the rules it states.

But `minReadySeconds` is not waited for, which only makes a rollout faster than it would be.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from tests.deploy.chart import Rendered
from tests.support.process import Process
from tests.support.waiting import within

LOOK_SECONDS = 0.05
PROBE_SECONDS = 5.0
ROLLOUT_SECONDS = 60.0
"""Several pods one after the other, on a machine that has other things to do."""


def template_hash(rendered: Rendered) -> str:
    """Differs between two revisions exactly when their pod templates do, like Kubernetes' pod-template-hash."""
    return hashlib.sha256(json.dumps(rendered.pod, sort_keys=True).encode()).hexdigest()[:10]


def limits(rendered: Rendered) -> tuple[int, int, int]:
    """Replicas, how many pods there may be at once, and how many of them must be available."""
    spec = rendered.one("Deployment")["spec"]
    replicas: int = spec.get("replicas") or rendered.one("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    strategy = spec["strategy"]["rollingUpdate"]
    surge = math.ceil(_share(strategy["maxSurge"], replicas))
    unavailable = math.floor(_share(strategy["maxUnavailable"], replicas))
    return replicas, replicas + surge, replicas - (unavailable if surge else max(unavailable, 1))


def _share(value: int | str, replicas: int) -> float:
    return replicas * float(value.rstrip("%")) / 100 if isinstance(value, str) else value


@dataclass(eq=False, slots=True)
class Pod:
    """One worker process under a rendered pod template."""

    name: str
    process: Process
    revision: str
    probe: str
    grace: float

    @property
    def facts(self) -> dict[str, Any]:
        """What it said at its start: its id and its port; empty before."""
        return next(iter(self.process.events("worker.started")), {})

    async def ready(self, http: aiohttp.ClientSession) -> bool:
        """What the readiness probe finds; that it ended unasked is the test's failure."""
        assert self.process.running, f"ended by itself: {self}"
        if not self.facts:
            return False
        with suppress(TimeoutError, aiohttp.ClientConnectionError):
            async with http.get(f"http://127.0.0.1:{self.facts['http_port']}{self.probe}") as reply:
                return reply.status == 200
        return False

    def __str__(self) -> str:
        return f"{self.name}, whose last lines are {self.process.lines[-3:]}"

    async def stop(self) -> None:
        """What the kubelet does; needing SIGKILL, or a failure, is the test's."""
        self.process.signal(signal.SIGTERM)
        async with within(self.grace, lambda: f"{self} ends"):
            assert await self.process.ended() == 0, self.process.lines[-3:]


class Deployment:
    """Follows one rendering after the other; leaving the context kills what is left."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.most_pods = 0
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        probes = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PROBE_SECONDS))
        self._http = await self._stack.enter_async_context(probes)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def apply(self, rendered: Rendered) -> None:
        """Replace pods as the Deployment's controller does; returns when the rollout is complete."""
        replicas, most, fewest_available = limits(rendered)
        revision = template_hash(rendered)
        async with within(ROLLOUT_SECONDS, lambda: f"all is rolled out: {self}"), asyncio.TaskGroup() as stopping:
            while self._count(revision) < replicas or len(self.pods) > replicas or not await self._all_available():
                missing = min(replicas - self._count(revision), most - len(self.pods))
                await asyncio.gather(*(self._start(rendered, revision) for _ in range(missing)))
                for pod in await self._to_stop(revision, fewest_available):
                    self.pods.remove(pod)
                    stopping.create_task(pod.stop())
                await asyncio.sleep(LOOK_SECONDS)

    async def crash(self) -> None:
        """Kill a pod; the next `apply` replaces it."""
        await self.pods.pop().process.kill()

    async def stop(self) -> None:
        """Scale to nothing."""
        await asyncio.gather(*(pod.stop() for pod in self.pods))
        self.pods = []

    def __str__(self) -> str:
        return "; ".join(map(str, self.pods)) or "no pods"

    def _count(self, revision: str) -> int:
        return sum(pod.revision == revision for pod in self.pods)

    async def _all_available(self) -> bool:
        return all([await pod.ready(self._http) for pod in self.pods])

    async def _to_stop(self, revision: str, fewest_available: int) -> list[Pod]:
        """Old pods that may go now: those that are not ready, and as many ready ones as are not needed."""
        ready = [pod for pod in self.pods if await pod.ready(self._http)]
        old = [pod for pod in self.pods if pod.revision != revision]
        unready = [pod for pod in old if pod not in ready]
        spare = max(len(ready) - fewest_available, 0)
        return unready + [pod for pod in old if pod in ready][:spare]

    async def _start(self, rendered: Rendered, revision: str) -> None:
        # Pods have an address each and can all listen on the same port; here they share one address.
        variables = rendered.environment() | {"REVISION": revision, "HTTP_PORT": "0"}
        process = await self._stack.enter_async_context(Process(variables, *rendered.worker["args"]))
        name = f"{rendered.one('Deployment')['metadata']['name']}-{revision}-{next(self._numbers)}"
        probe = rendered.worker["readinessProbe"]["httpGet"]["path"]
        grace = rendered.pod["spec"]["terminationGracePeriodSeconds"]
        self.pods.append(Pod(name, process, revision, probe, grace))
        self.most_pods = max(self.most_pods, len(self.pods))
