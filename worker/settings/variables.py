"""The environment variables: each with its unit, its default and its relation to other settings."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from codec.crypto import MIN_SECRET_BYTES
from codec.opus import Application
from codec.opus.effort import Quiet
from worker.batching.batch import BatchLimits, BatchRules
from worker.batching.encoder import OpusSettings
from worker.errors import SettingsError
from worker.model.jitter import GAP_TOLERANCE, JOINED_STARTS
from worker.runtime.cpu import cpu_limit
from worker.settings.groups import (
    EncodingSettings,
    HttpSettings,
    RedisSettings,
    ShutdownSettings,
    SpoolSettings,
    StoreSettings,
)
from worker.stores import checked_emulator, checked_store_url
from worker.stream.keys import DEFAULT_PARTITIONS, MAX_PARTITIONS, PREFIX
from worker.stream.servers import address, certificates

MIB = 1024 * 1024
DAY = 24 * 3600
T = TypeVar("T")
V = TypeVar("V")

NO_STORE = "STORE_URL is not set: give gs://bucket[/prefix] or file:///directory"
NO_SECRET = f"ENCRYPTION_SECRET is not set: give at least {MIN_SECRET_BYTES} bytes"
URL_USER = re.compile(r"(://)[^/?#]*@")


def _own_name() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


class Settings(BaseSettings):
    """One field per environment variable of the same name in upper case; properties group the fields by their user.

    Raises:
        ValidationError: `worker.settings.load` turns it into a `SettingsError` with one line for each wrong variable.
    """

    # An empty variable is an unset one: that is how a chart or a compose file leaves a variable out.
    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, allow_inf_nan=False, env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: Annotated[
        str,
        Field(
            repr=False,
            description="Redis that holds the streams: redis://[user:password@]host[:port][/db], or rediss:// for TLS;"
            " several hosts of a cluster; redis+sentinel://host,host/name.",
        ),
    ] = "redis://localhost:6379/0"
    redis_ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the private authority that vouches for Redis; REDIS_URL must have TLS."),
    ] = None
    redis_auth: Annotated[
        Literal["password", "google-iam"],
        Field(description="How to log in to Redis; google-iam takes an access token as the password, for Memorystore."),
    ] = "password"
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
            ge=1,
            le=MAX_PARTITIONS,
            description="Number of streams; pushers and workers must agree. Redis records it, and the command"
            " partitions changes it. Workers and commands without it take the recorded one.",
        ),
    ] = DEFAULT_PARTITIONS
    stream_prefix: Annotated[str, Field(pattern=f"^{PREFIX.pattern}$", description="Start of every Redis key.")] = "pcm"

    batch_max_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=JOINED_STARTS,
            description="Seconds of audio that close a batch; over 90 with GAP_TOLERANCE, readers split audio.",
        ),
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
    opus_application: Annotated[
        Application, Field(description="audio keeps low frequencies, voip filters them away.")
    ] = "audio"
    opus_quiet_complexity: Annotated[
        int,
        Field(
            ge=0,
            le=10,
            description="Encoder effort for audio without speech; no less than OPUS_COMPLEXITY turns this off.",
        ),
    ] = 1
    opus_quiet_bitrate: Annotated[
        int | None,
        Field(
            ge=6000,
            le=510000,
            description="Bits per second after 3 s without speech; empty is that of speech.",
        ),
    ] = None
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
    def _redis_address(cls, url: str) -> str:
        _as_value_error(address.parse_address, url)
        return url

    @field_validator("redis_ca_file")
    @classmethod
    def _redis_authority(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        url = others.data.get("redis_url")
        if path is not None and url is not None:
            parsed = address.parse_address(url)
            if not parsed.tls:
                raise ValueError("needs TLS: begin REDIS_URL with rediss://")
            if "ssl_ca_certs" in parsed.options:
                raise ValueError("is set, and REDIS_URL has ssl_ca_certs: give one of the two")
            _as_value_error(certificates.check_authorities, path)
        return path

    @field_validator("redis_auth")
    @classmethod
    def _redis_login(cls, auth: str, others: ValidationInfo) -> str:
        url = others.data.get("redis_url")
        if auth != address.Auth.PASSWORD and url is not None:
            _as_value_error(address.parse_address, address.with_options(url, auth=auth))
        return auth

    @field_validator("store_url")
    @classmethod
    def _store_place(cls, url: str) -> str:
        if url:
            _as_value_error(checked_store_url, url)
        return url

    @field_validator("encryption_secret")
    @classmethod
    def _secret_length(cls, secret: SecretStr) -> SecretStr:
        size = _size(secret.get_secret_value())
        if 0 < size < MIN_SECRET_BYTES:
            raise ValueError(f"has {size} bytes; it needs at least {MIN_SECRET_BYTES}")
        return secret

    @field_validator("encryption_secrets_old")
    @classmethod
    def _old_secret_lengths(cls, secrets: SecretStr) -> SecretStr:
        for number, secret in enumerate(_split(secrets), start=1):
            size = _size(secret)
            if size < MIN_SECRET_BYTES:
                raise ValueError(f"number {number} has {size} bytes; each needs at least {MIN_SECRET_BYTES}")
        return secrets

    @field_validator("storage_emulator_host")
    @classmethod
    def _emulator_address(cls, host: str | None) -> str | None:
        return None if host is None else _as_value_error(checked_emulator, host)

    @field_validator("spool_mode")
    @classmethod
    def _spool_needs_a_directory(cls, mode: str, others: ValidationInfo) -> str:
        if mode != "off" and others.data.get("spool_dir") is None:
            raise ValueError("needs SPOOL_DIR: name a directory, or set SPOOL_MODE=off")
        return mode

    @property
    def redis(self) -> RedisSettings:
        """For connections, keys and leases."""
        ours = {"ssl_ca_certs": self.redis_ca_file, "auth": None if self.redis_auth == "password" else self.redis_auth}
        url = address.with_options(self.redis_url, **{name: str(value) for name, value in ours.items() if value})
        return RedisSettings(url, self.stream_prefix, self.stated_partitions, self.lease_ttl)

    @property
    def stated_partitions(self) -> int | None:
        """PARTITIONS; None if it is not set, so that the recorded number counts."""
        return self.partitions if "partitions" in self.model_fields_set else None

    @property
    def store(self) -> StoreSettings:
        """For the store and its limit of uploads."""
        return StoreSettings(self.store_url, self.storage_emulator_host, self.upload_concurrency)

    @property
    def batches(self) -> BatchRules:
        """For the batcher."""
        limits = BatchLimits(self.batch_max_seconds, self.batch_max_age, self.batch_max_bytes, self.gap_tolerance)
        return BatchRules(limits, self.blob_codec, self.blob_naming)

    @property
    def splits_files(self) -> bool:
        """Whether readers would split audio without a gap: a blob may start so much later than the one before."""
        return self.batch_max_seconds + self.gap_tolerance > JOINED_STARTS

    @property
    def encoding(self) -> EncodingSettings:
        """For the encoders."""
        quiet = Quiet(self.opus_quiet_complexity, self.opus_quiet_bitrate)
        opus = OpusSettings(self.opus_complexity, self.opus_bitrate, self.opus_dtx, self.opus_application, quiet)
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
        _complain([] if self.store_url else [NO_STORE])

    def require_storage(self) -> None:
        """Make sure that all settings for storing blobs are set.

        Raises:
            SettingsError: STORE_URL or ENCRYPTION_SECRET is missing, or both.
        """
        _complain(([] if self.store_url else [NO_STORE]) + ([] if self.secret else [NO_SECRET]))

    def public(self) -> dict[str, str | int | float | bool | None]:
        """What is in effect, by variable, for logs: secrets are `***`, and URLs have no user and password."""
        return {name.upper(): _public(name, getattr(self, name)) for name in Settings.model_fields}


def _size(secret: str) -> int:
    try:
        return len(secret.encode())
    except UnicodeEncodeError:  # its own message quotes a part of the secret
        raise ValueError("is not valid UTF-8") from None


def _split(secrets: SecretStr) -> list[str]:
    return [secret for secret in re.split(r"[,\r\n]+", secrets.get_secret_value()) if secret]


def _as_value_error(check: Callable[[V], T], value: V) -> T:
    """Make a check of another module one of pydantic's, so that it is told together with the others."""
    try:
        return check(value)
    except SettingsError as error:
        sentence = str(error)
    raise ValueError(sentence)


def _complain(sentences: list[str]) -> None:
    if sentences:
        raise SettingsError("\n".join(sentences))


def _public(name: str, value: object) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if name == "redis_url":
        return str(address.parse_address(str(value)))
    if isinstance(value, str):
        return URL_USER.sub(r"\1***@", value)
    return value if isinstance(value, int | float | None) else str(value)
