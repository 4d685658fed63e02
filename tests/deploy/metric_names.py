"""The series that a worker exports, to compare queries with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from worker.runtime.metrics import Metrics

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
FROM_PROMETHEUS = {"namespace", "job", "pod", "instance"}
NAME = re.compile(r"\b(?:audio_batch|process)_[a-z_]+")


def series() -> dict[str, set[str]]:
    """Name of each series → its own labels."""
    metrics = Metrics(CollectorRegistry())
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in SUFFIXES[str(metric._type)]:
                bound = {"le"} if suffix == "_bucket" else set()
                found[metric._name + suffix] = {*metric._labelnames, *bound}
    families = [family for family in metrics.registry.collect() if family.name.startswith("process_")]
    return found | {family.name + SUFFIXES[family.type][0]: set() for family in families}


def used(query: str) -> set[str]:
    """The workers' series that a query mentions."""
    return set(NAME.findall(query))


def labels_used(query: str) -> Iterator[str]:
    """Labels that a query groups or selects by."""
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        yield from re.split(r",\s*", group)
    yield from re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!=|!~|=)", query)


def unknown_labels(query: str, known: Mapping[str, set[str]]) -> set[str]:
    """Labels in a query that none of its series has."""
    of_these = {label for name in used(query) for label in known[name]}
    return set(labels_used(query)) - of_these - FROM_PROMETHEUS
