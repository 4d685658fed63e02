"""All settings, read from the environment: each with its unit, its default and its relation to other settings."""

from __future__ import annotations

import re
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from codec.crypto import MIN_SECRET_BYTES
from codec.errors import escaped
from worker.batching.batch import BatchLimits, BatchRules
from worker.batching.encoder import OpusSettings
from worker.errors import SettingsError
from worker.model.jitter import GAP_TOLERANCE
from worker.runtime.cpu import cpu_limit
from worker.stores import open_store
from worker.stores.base import Store
from worker.stream.keys import MAX_PARTITIONS, PREFIX, Keys

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MIB = 1024 * 1024
DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """REDIS_URL, STREAM_PREFIX, PARTITIONS and LEASE_TTL: where the streams are, and how workers share them."""

    url: str
    prefix: str
    partitions: int
    lease_ttl: float

    @property
    def keys(self) -> Keys:
        """Names of all keys under the prefix."""
        return Keys(self.prefix)

    @property
    def reply_timeout(self) -> float:
        """Seconds that a worker waits for a reply; after a missing reply it must still be able to renew a lease."""
        return min(5.0, self.lease_ttl / 3)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """STORE_URL, STORAGE_EMULATOR_HOST and UPLOAD_CONCURRENCY."""

    url: str
    emulator_host: str | None
    upload_concurrency: int

    @property
    def is_directory(self) -> bool:
        """Whether another volume may be at the same place."""
        return self.url.startswith("file:")

    def open(self) -> Store:
        """Open the store; raises the same errors as `open_store`."""
        return open_store(self.url, emulator_host=self.emulator_host)


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """How audio is encoded, in how many threads, and MEMORY_LIMIT."""

    opus: OpusSettings
    threads: int
    memory_limit: int


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """SPOOL_DIR, SPOOL_MODE, SPOOL_MAX_BYTES and SPOOL_AFTER: where and when blobs wait for the store."""

    directory: Path
    mode: Literal["off", "outage", "always"]
    max_bytes: int
    after: float


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """HTTP_HOST and HTTP_PORT: the address that the HTTP server listens on; port 0 takes a free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ShutdownSettings:
    """SHUTDOWN and SHUTDOWN_GRACE: whether open batches are stored at the end, and the seconds from SIGTERM to exit."""

    flush: bool
    grace: float


def _own_name() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


class Settings(BaseSettings):
    """One field per environment variable of the same name in upper case; properties group the fields by their user.

    Raises:
        SettingsError: `load` raises it, with one sentence that names the variable.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    redis_url: Annotated[
        str, Field(description="Redis that holds the streams: redis://[user:password@]host[:port][/db] or rediss://…")
    ] = "redis://localhost:6379/0"
    store_url: Annotated[
        str, Field(description="Where blobs go: gs://bucket[/prefix] or file:///directory. Required by all that store.")
    ] = ""
    encryption_secret: Annotated[
        SecretStr, Field(description="Input of every user's key, at least 32 bytes of UTF-8, used as typed.")
    ] = SecretStr("")
    encryption_secrets_old: Annotated[
        SecretStr, Field(description="Former secrets, for reading only, separated by commas or line breaks.")
    ] = SecretStr("")
    partitions: Annotated[
        int,
        Field(
            ge=1, le=MAX_PARTITIONS, description="Number of streams; pushers and workers must agree, Redis records it."
        ),
    ] = 64
    stream_prefix: Annotated[str, Field(pattern=f"^{PREFIX.pattern}$", description="Start of every Redis key.")] = "pcm"

    batch_max_seconds: Annotated[
        float, Field(gt=0, le=90, description="Seconds of audio that close a batch; readers split files over 90 s.")
    ] = 60.0
    batch_max_age: Annotated[
        float, Field(gt=0, le=DAY, description="Seconds since a batch's first entry, on Redis' clock, that close it.")
    ] = 60.0
    batch_max_bytes: Annotated[int, Field(gt=0, description="Bytes of PCM that close a batch.")] = 8 * MIB
    gap_tolerance: Annotated[
        float,
        Field(
            ge=0, le=DAY, description="Seconds a timestamp may be off its place in the sample count before it is a gap."
        ),
    ] = GAP_TOLERANCE
    lease_ttl: Annotated[
        float, Field(ge=0.5, le=3600, description="Seconds until a dead worker's partitions are free for others.")
    ] = 15.0

    blob_codec: Annotated[
        Literal["opus", "pcm"], Field(description="Content of new blobs; pcm is the way back to old readers.")
    ] = "opus"
    blob_naming: Annotated[
        Literal["start", "range"], Field(description="Stem of new blobs: first timestamp, or first-last.")
    ] = "start"
    opus_complexity: Annotated[int, Field(ge=0, le=10, description="Encoder effort: CPU against quality.")] = 6
    opus_bitrate: Annotated[
        int | None, Field(ge=6000, le=510000, description="Bits per second; empty lets libopus choose by rate.")
    ] = None
    opus_dtx: Annotated[
        bool, Field(description="Let libopus drop silent frames; saves few bytes and costs quality.")
    ] = False
    encode_threads: Annotated[
        int, Field(ge=1, le=256, description="Encoder threads; by default the CPU limit of this process, rounded down.")
    ] = Field(default_factory=cpu_limit)
    upload_concurrency: Annotated[int, Field(ge=1, le=1024, description="Uploads in flight at once.")] = 16
    memory_limit: Annotated[
        int, Field(ge=MIB, description="Bytes of open and in-flight audio at which reading pauses.")
    ] = 512 * MIB

    spool_dir: Annotated[
        Path | None,
        Field(description="Directory for blobs that wait for the store, on a volume that outlives the pod."),
    ] = None
    spool_mode: Annotated[
        Literal["off", "outage", "always"],
        Field(description="When finished blobs go to SPOOL_DIR; what lies there is uploaded in any mode."),
    ] = "off"
    spool_max_bytes: Annotated[
        int, Field(ge=MIB, description="Bytes of all blobs in SPOOL_DIR; beyond it Redis holds the audio.")
    ] = 10 * 1024 * MIB
    spool_after: Annotated[
        float,
        Field(ge=0, le=DAY, description="Seconds for which the store has refused everything before SPOOL_DIR is used."),
    ] = 30.0

    http_host: Annotated[str, Field(description="Address that /livez, /readyz and /metrics listen on.")] = "0.0.0.0"  # noqa: S104 -- probes and Prometheus come from outside the pod
    http_port: Annotated[int, Field(ge=0, le=65535, description="Its port; 0 takes a free one.")] = 8080
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Least severity logged.")] = (
        "info"
    )
    log_format: Annotated[Literal["json", "console"], Field(description="json has Google Cloud's severity.")] = "json"

    shutdown: Annotated[
        Literal["flush", "handoff"],
        Field(description="On SIGTERM: flush stores open batches, handoff leaves them pending for the next owner."),
    ] = "flush"
    shutdown_grace: Annotated[
        float,
        Field(gt=0, le=DAY, description="Seconds from SIGTERM to a forced exit; keep below the pod's grace period."),
    ] = 25.0

    worker_id: Annotated[
        str,
        Field(
            pattern=r"^[^\s]([^\r\n]{0,126}[^\s])?$",
            description="Name of this worker; by default host name and a random part.",
        ),
    ] = Field(default_factory=_own_name)
    revision: Annotated[
        str, Field(max_length=128, description="Deployment revision; partitions move to the newest during a rollout.")
    ] = ""
    storage_emulator_host: Annotated[
        str | None, Field(description="http://host:port of a GCS emulator, as in every GCS client.")
    ] = None

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis:// or rediss://")
        return url

    @field_validator("store_url")
    @classmethod
    def _store_scheme(cls, url: str) -> str:
        if url and not url.startswith(("gs://", "file:///")):
            raise ValueError("must be gs://bucket[/prefix] or file:///directory")
        return url

    @field_validator("encryption_secret")
    @classmethod
    def _secret_length(cls, secret: SecretStr) -> SecretStr:
        size = len(secret.get_secret_value().encode())
        if 0 < size < MIN_SECRET_BYTES:
            raise ValueError(f"has {size} bytes; it needs at least {MIN_SECRET_BYTES}")
        return secret

    @field_validator("encryption_secrets_old")
    @classmethod
    def _old_secret_lengths(cls, secrets: SecretStr) -> SecretStr:
        for number, secret in enumerate(_split(secrets), start=1):
            size = len(secret.encode())
            if size < MIN_SECRET_BYTES:
                raise ValueError(f"number {number} has {size} bytes; each needs at least {MIN_SECRET_BYTES}")
        return secrets

    @field_validator("opus_bitrate", "spool_dir", "storage_emulator_host", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("worker_id", mode="before")
    @classmethod
    def _empty_is_our_own(cls, name: object) -> object:
        return _own_name() if name == "" else name

    @field_validator("storage_emulator_host")
    @classmethod
    def _emulator_scheme(cls, host: str | None) -> str | None:
        if host and "://" in host and not host.startswith(("http://", "https://")):
            raise ValueError("must be http://host:port")
        return host

    @model_validator(mode="after")
    def _spool_needs_a_directory(self) -> Self:
        if self.spool_mode != "off" and self.spool_dir is None:
            raise ValueError("SPOOL_MODE needs SPOOL_DIR: name a directory, or set SPOOL_MODE=off")
        return self

    @property
    def redis(self) -> RedisSettings:
        """For connections, keys and leases."""
        return RedisSettings(self.redis_url, self.stream_prefix, self.partitions, self.lease_ttl)

    @property
    def store(self) -> StoreSettings:
        """For the store and its limit of uploads."""
        return StoreSettings(self.store_url, self.storage_emulator_host, self.upload_concurrency)

    @property
    def batches(self) -> BatchRules:
        """For the batcher."""
        limits = BatchLimits(self.batch_max_seconds, self.batch_max_age, self.batch_max_bytes, self.gap_tolerance)
        return BatchRules(limits, self.blob_codec, self.blob_naming, self.partitions)

    @property
    def encoding(self) -> EncodingSettings:
        """For the encoders."""
        opus = OpusSettings(self.opus_complexity, self.opus_bitrate, self.opus_dtx)
        return EncodingSettings(opus, self.encode_threads, self.memory_limit)

    @property
    def spool(self) -> SpoolSettings | None:
        """For the spool; None without SPOOL_DIR."""
        if self.spool_dir is None:
            return None
        return SpoolSettings(self.spool_dir, self.spool_mode, self.spool_max_bytes, self.spool_after)

    @property
    def http(self) -> HttpSettings:
        """For the HTTP server."""
        return HttpSettings(self.http_host, self.http_port)

    @property
    def ending(self) -> ShutdownSettings:
        """For the shutdown; SHUTDOWN itself already has that name."""
        return ShutdownSettings(flush=self.shutdown == "flush", grace=self.shutdown_grace)

    @property
    def secret(self) -> str:
        """The encryption secret in clear, for key derivation only."""
        return self.encryption_secret.get_secret_value()

    @property
    def secrets(self) -> list[str]:
        """All secrets in clear, the current one first: new blobs use the current one, old blobs may use any."""
        current = [self.secret] if self.secret else []
        return [*current, *_split(self.encryption_secrets_old)]

    def require_store(self) -> None:
        """Make sure that STORE_URL is set.

        Raises:
            SettingsError: STORE_URL is missing.
        """
        if not self.store_url:
            raise SettingsError("STORE_URL is not set: give gs://bucket[/prefix] or file:///directory")

    def require_storage(self) -> None:
        """Make sure that all settings for storing blobs are set.

        Raises:
            SettingsError: STORE_URL or ENCRYPTION_SECRET is missing.
        """
        self.require_store()
        if not self.secret:
            raise SettingsError(f"ENCRYPTION_SECRET is not set: give at least {MIN_SECRET_BYTES} bytes")


def _split(secrets: SecretStr) -> list[str]:
    return [secret for secret in re.split(r"[,\r\n]+", secrets.get_secret_value()) if secret]


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: one sentence on the first invalid variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_sentence(error.errors(include_url=False)[0])) from None


def _sentence(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    if error["type"] == "value_error":  # from a validator above; the value may be a secret
        message = error["msg"].removeprefix("Value error, ")
        return f"{name} {message}" if name else message
    wanted = error["msg"].partition(" should ")[2].partition(", unable to ")[0]
    return f"{name} is {escaped(error['input'])}: it should {wanted}"


def environment_names() -> dict[str, str]:
    """Every variable's name and description, for --help."""
    return {
        name.upper(): f"{field.description} [default: {shown_default_and_choices(name)}]"
        for name, field in Settings.model_fields.items()
    }


def shown_default_and_choices(name: str) -> str:
    """A field's default in readable form, and the other allowed words if the field takes one of a few."""
    field = Settings.model_fields[name]
    others = [choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != field.default]
    return f"{_shown_default(name)} (or {', '.join(others)})" if others else _shown_default(name)


def _shown_default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return "by machine"
    if isinstance(field.default, SecretStr) or field.default in (None, ""):
        return "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
