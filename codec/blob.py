"""A whole blob: seals its content for storage, and decodes its bytes, name and metadata back to audio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codec import crypto, opus
from codec.arguments import NOTHING, check_types
from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE, SAMPLE_RATES
from codec.errors import BadBlob, DecryptionFailed
from codec.metadata import BlobMetadata
from codec.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codec.names import BlobName


@dataclass(frozen=True, slots=True)
class Audio:
    """Mono s16le PCM at `sample_rate` Hz."""

    pcm: bytes
    sample_rate: int

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.pcm) // BYTES_PER_SAMPLE

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate


def seal_content(content: bytes, key: bytes | None) -> bytes:
    """The bytes to store for a content (an Opus container or PCM): one encrypted segment, or without a key itself.

    Raises:
        WrongType: an argument is not bytes.
    """
    check_types(bytes, content=content)
    return content if key is None else crypto.encrypt(key, content)


def open_content(data: bytes, name: str, *, secrets: Sequence[str]) -> bytes:
    """The content of a stored blob; if its name says that it is encrypted, the first secret that opens it is used.

    Raises:
        BadName: it is not the name of a blob.
        BadSecret: the secrets are not a list of secrets.
        DecryptionFailed: none of the secrets opens all of it.
        WrongType: `data` is not bytes.
    """
    check_types(bytes, data=data)
    return _open(data, parse_name(name), secrets)


def decode(data: bytes, name: str, metadata: Mapping[str, str] | None, *, secrets: Sequence[str]) -> Audio:
    """The audio of a stored blob of any of the six extensions.

    With the metadata of its writer, Opus comes back at its own rate, aligned to the sample and complete. Without
    metadata it comes back at 16 kHz. PCM without metadata counts as 16 kHz. Half a sample at the end of PCM is dropped.

    Raises:
        BadName: it is not the name of a blob.
        BadSecret: the secrets are not a list of secrets.
        BadBlob: its bytes are corrupt or truncated; `DecryptionFailed` if none of the secrets opens all of it.
        LibopusMissing: it is Opus, and libopus can't be loaded.
        WrongType: `data` is not bytes, or `metadata` is neither a mapping nor None.
    """
    check_types(Mapping, NOTHING, metadata=metadata)
    return decode_content(open_content(data, name, secrets=secrets), name, metadata)


def decode_content(content: bytes, name: str, metadata: Mapping[str, str] | None) -> Audio:
    """The audio of a content that `open_content` gave. Raises as `decode`."""
    check_types(bytes, content=content)
    check_types(Mapping, NOTHING, metadata=metadata)
    facts = BlobMetadata.from_mapping(metadata or {})
    if parse_name(name).kind.codec(facts.codec) == "pcm":
        whole = content[: len(content) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE]
        return Audio(whole, facts.sample_rate or DEFAULT_SAMPLE_RATE)
    try:
        return _decode_opus(content, facts)
    except BadBlob as error:
        raise BadBlob(f"{name}: {error}") from error


def _open(data: bytes, blob: BlobName, secrets: Sequence[str]) -> bytes:
    given = crypto.checked_secrets(secrets)
    if not blob.kind.encrypted:
        return data
    if not given:
        raise DecryptionFailed(f"{blob} is encrypted, and no secret is given")
    for secret in given:
        try:
            return crypto.decrypt(crypto.derive_key(secret, blob.uid), data)
        except DecryptionFailed as error:
            failure = error
    raise DecryptionFailed(f"{blob}: {failure}") from failure


def _decode_opus(content: bytes, facts: BlobMetadata) -> Audio:
    if facts.sample_rate not in SAMPLE_RATES:
        return Audio(opus.decode(content), DEFAULT_SAMPLE_RATE)
    pcm = opus.decode(content, sample_rate=facts.sample_rate, pre_skip=facts.pre_skip or 0, samples=facts.samples)
    return Audio(pcm, facts.sample_rate)
