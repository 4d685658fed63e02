"""Entries and events of a Redis against the schemas of `codec/asyncapi.json`."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BINARY = {b"pcm"}
"""Fields that a JSON text has in Base64."""


@cache
def validator(schema: str) -> Draft7Validator:
    """Of one of the schemas: chunk, end or doneEvent."""
    document = json.loads((ROOT / "codec" / "asyncapi.json").read_text())
    return Draft7Validator(document["components"]["schemas"][schema])


def as_json(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """An entry as the document describes it. Raises `UnicodeDecodeError`."""
    return {
        name.decode(): base64.b64encode(value).decode() if name in BINARY else value.decode()
        for name, value in fields.items()
    }


def faults(fields: Mapping[bytes, bytes], *, event: bool = False) -> list[str]:
    """What is wrong with an entry or an event by its schema, a field that the schema does not know included."""
    schema = "doneEvent" if event else "end" if b"end" in fields else "chunk"
    checker: Any = validator(schema)
    unknown = {name.decode() for name in fields} - set(checker.schema["properties"]) if event else ()
    return [*(str(error.message)[:200] for error in checker.iter_errors(as_json(fields))), *unknown]


def faults_of_all(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]], *, event: bool = False) -> list[str]:
    """The same for all entries of a stream."""
    return [fault for _, fields in entries for fault in faults(fields, event=event)]
