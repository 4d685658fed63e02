"""The contract of the streams as an AsyncAPI document with JSON Schemas, made from the code that parses and writes.

`python -m tests.tools.contract` writes it to `codec/asyncapi.json`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from codec import entry
from tests.support.paths import ROOT
from worker.delivery.recovery import TRIGGER_UNKNOWN
from worker.model.done_event import NUMBERS, DoneEvent
from worker.model.states import Trigger
from worker.stream.entries import DONE_LENGTH
from worker.stream.keys import CONTRACT_VERSION

DOCUMENT = ROOT / "codec" / "asyncapi.json"
DIALECT = "http://json-schema.org/draft-07/schema#"
"""The one that AsyncAPI builds on."""

BASE64_BYTES, BASE64_CHARACTERS = 3, 4
ENTRY_ID = "^[0-9]+-[0-9]+$"
HEX_32 = "^[0-9a-f]{32}$"

Schema = dict[str, Any]


def text(description: str, **rules: object) -> Schema:
    return {"type": "string", "description": description, **rules}


def pattern(compiled: re.Pattern[bytes] | re.Pattern[str]) -> str:
    source = compiled.pattern
    return f"^{source.decode() if isinstance(source, bytes) else source}$"


def identifier(description: str) -> Schema:
    """An id; JSON Schema counts characters and Redis bytes, so that the schema allows a few ids that are too long."""
    forbidden = entry._FORBIDDEN_IN_IDS.pattern
    allowed = f"^(?!\\.\\.?$)[^{forbidden[1:]}+$"
    most = entry.MAX_ID_BYTES
    return text(f"{description}: 1 to {most} bytes of UTF-8", minLength=1, maxLength=most, pattern=allowed)


def base64_characters(size: int) -> int:
    return -(-size // BASE64_BYTES) * BASE64_CHARACTERS


TRACE: dict[str, Schema] = {
    "traceparent": text("W3C Trace Context of the request that the audio belongs to"),
    "tracestate": text("the rest of this trace context"),
}
NUMBERED: dict[str, Schema] = {
    "session": text(
        f"one life of the pusher: 1 to {entry.MAX_SESSION_BYTES} random bytes, here as text",
        minLength=1,
        maxLength=entry.MAX_SESSION_BYTES,
    ),
    "seq": text(
        "number of the chunk in its conversation and session, from 0; of an end: how many chunks there were",
        pattern=pattern(entry._SEQ),
    ),
}
FIELDS: dict[str, Schema] = {
    "uid": identifier("the user"),
    "conversation_id": identifier("the conversation"),
    "timestamp": text("Unix seconds of the first sample", pattern=pattern(entry._TIMESTAMP)),
    "pcm": text(
        "raw 16-bit little-endian mono PCM; Redis has the bytes, a JSON text of the entry has Base64",
        contentEncoding="base64",
        minLength=base64_characters(1),
        maxLength=base64_characters(entry.MAX_CHUNK_BYTES),
    ),
    "sample_rate": text("Hz", enum=[str(rate) for rate in entry.SAMPLE_RATES], default=str(entry.DEFAULT_SAMPLE_RATE)),
    "protection": text(
        f"whether the stored audio is encrypted: all but {entry.CLEAR_PROTECTION} are",
        enum=[*entry.PROTECTIONS],
        default=entry.DEFAULT_PROTECTION,
    ),
    "end": text("says that the conversation is over", const="1"),
    **NUMBERED,
}
EVENT_FIELDS: dict[str, Schema] = {
    "uid": text("the user"),
    "conversation_id": text("the conversation"),
    "object": text("name of the stored object"),
    "start": text("Unix seconds of the first sample", pattern=r"^[0-9]+\.[0-9]{3}$"),
    "samples": text("length of the audio, silence in gaps included"),
    "sample_rate": text("Hz", enum=[str(rate) for rate in entry.SAMPLE_RATES]),
    "bytes": text("size of the object"),
    "trigger": text("what closed the batch", enum=[*map(str, Trigger), TRIGGER_UNKNOWN]),
    "chunks": text("number of audio entries in it"),
    "codec": text("content of the object", enum=["opus", "pcm"]),
    "protection": text("as pushed", enum=[*entry.PROTECTIONS]),
    "first_entry": text("id of its first audio entry", pattern=ENTRY_ID),
    "last_entry": text("id of its last audio entry", pattern=ENTRY_ID),
    "seqs": text("numbers of its chunks by session: 0-11, or a1b2:0-11;c3d4:0-3"),
    "stream": text("random id of the stream", pattern=HEX_32),
    "chunks_digest": text("BLAKE2b-128 of the identities of its chunks", pattern=HEX_32),
    **TRACE,
}
EVENT_OPTIONAL = {"seqs", *TRACE}


def entry_schema(required: tuple[bytes, ...], optional: tuple[bytes, ...]) -> Schema:
    names = [name.decode() for name in (*required, *optional)]
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": {name: FIELDS[name] for name in names} | TRACE,
        "patternProperties": {pattern(entry._OWN_FIELD): text("for a pusher's own purposes")},
        "additionalProperties": False,
        "required": [name.decode() for name in required],
        "maxProperties": len(names) + entry.MAX_EXTENSIONS,
    }


def event_schema() -> Schema:
    """Later versions may have more fields."""
    names = list(DoneEvent.__dataclass_fields__)
    whole = {name: {"pattern": "^[0-9]+$"} for name, kind in NUMBERS.items() if kind is int}
    properties = {name: EVENT_FIELDS[name] | whole.get(name, {}) for name in names}
    required = [name for name in names if name not in EVENT_OPTIONAL]
    return {"$schema": DIALECT, "type": "object", "properties": properties, "required": required}


def message(name: str, title: str) -> Schema:
    return {
        "name": name,
        "title": title,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }


def channel(suffix: str, description: str, *messages: str) -> Schema:
    stream = "The key {prefix}:{N} with the braces around N written out; N is crc32(conversation_id) % PARTITIONS"
    return {
        "address": f"{{stream}}{suffix}",
        "description": description,
        "parameters": {"stream": {"description": stream, "examples": ["pcm:{7}"]}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def document() -> Schema:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "audio-batch-worker",
            "version": CONTRACT_VERSION,
            "description": "Fields of Redis stream entries. A message is one entry; Redis keeps its fields as bytes.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "localhost:6379",
                "pathname": "/0",
                "protocol": "redis",
                "description": "What REDIS_URL names",
            }
        },
        "channels": {
            "audio": channel("", "One XADD is one message. Never MAXLEN, never XTRIM.", "chunk", "end"),
            "done": channel(":done", f"About {DONE_LENGTH} events are kept. Read them by XREAD.", "doneEvent"),
        },
        "operations": {
            "receiveAudio": {"action": "receive", "channel": {"$ref": "#/channels/audio"}},
            "announceBlob": {"action": "send", "channel": {"$ref": "#/channels/done"}},
        },
        "components": {
            "messages": {
                "chunk": message("chunk", "Audio of a conversation"),
                "end": message("end", "A conversation is over"),
                "doneEvent": message("doneEvent", "A blob is stored"),
            },
            "schemas": {
                "chunk": entry_schema(entry.REQUIRED_FIELDS, entry.OPTIONAL_FIELDS),
                "end": entry_schema(entry.END_FIELDS, entry.OPTIONAL_END_FIELDS),
                "doneEvent": event_schema(),
            },
        },
    }


def written() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(written())
