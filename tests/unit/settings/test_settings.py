"""The settings: every default pinned, every wrong value one sentence that names the variable."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from codec.opus.effort import Quiet
from tests.support.certificates import self_signed
from worker.batching.batch import BatchLimits, BatchRules
from worker.batching.encoder import OpusSettings
from worker.errors import SettingsError
from worker.settings import (
    MIB,
    EncodingSettings,
    HttpSettings,
    RedisSettings,
    Settings,
    ShutdownSettings,
    SpoolSettings,
    StoreSettings,
    environment_names,
    load,
    misspelt,
)
from worker.stores import open_store
from worker.stores.gcs import GcsStore

DEFAULTS = {
    "redis_url": "redis://localhost:6379/0",
    "redis_ca_file": None,
    "redis_auth": "password",
    "store_url": "",
    "partitions": 256,
    "stream_prefix": "pcm",
    "batch_max_seconds": 60.0,
    "batch_max_age": 60.0,
    "batch_max_bytes": 8 * MIB,
    "gap_tolerance": 2.0,
    "lease_ttl": 15.0,
    "blob_codec": "opus",
    "blob_naming": "start",
    "opus_complexity": 6,
    "opus_bitrate": None,
    "opus_dtx": False,
    "opus_application": "audio",
    "opus_quiet_complexity": 1,
    "opus_quiet_bitrate": None,
    "upload_concurrency": 16,
    "memory_limit": 512 * MIB,
    "spool_dir": None,
    "spool_mode": "off",
    "spool_max_bytes": 10 * 1024 * MIB,
    "spool_after": 30.0,
    "http_host": "0.0.0.0",  # noqa: S104 -- nothing listens here
    "http_port": 8080,
    "log_level": "info",
    "log_format": "json",
    "shutdown": "flush",
    "shutdown_grace": 25.0,
    "revision": "",
    "storage_emulator_host": None,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default(name: str) -> None:
    assert getattr(load(), name) == DEFAULTS[name]


def test_every_default_is_pinned() -> None:
    by_machine, secrets = {"encode_threads", "worker_id"}, {"encryption_secret", "encryption_secrets_old"}
    assert Settings.model_fields.keys() == DEFAULTS.keys() | by_machine | secrets


def test_groups_hold_every_setting_that_the_worker_takes_from_them(tmp_path: Path) -> None:
    settings = Settings(spool_dir=tmp_path, encode_threads=3)
    assert settings.redis == RedisSettings("redis://localhost:6379/0", "pcm", None, 15.0)
    assert settings.redis.reply_timeout == 5.0
    assert settings.store == StoreSettings("", None, 16)
    assert settings.batches == BatchRules(BatchLimits(60.0, 60.0, 8 * MIB, 2.0), "opus", "start")
    assert settings.encoding == EncodingSettings(OpusSettings(6, None, dtx=False, quiet=Quiet(1)), 3, 512 * MIB)
    assert settings.spool == SpoolSettings(tmp_path, "off", 10 * 1024 * MIB, 30.0)
    assert settings.http == HttpSettings("0.0.0.0", 8080)  # noqa: S104 -- nothing listens here
    assert settings.ending == ShutdownSettings(flush=True, grace=25.0)


def test_without_a_directory_there_is_no_spool() -> None:
    assert load().spool is None


def test_reply_is_waited_for_no_longer_than_a_lease_can_spare() -> None:
    assert Settings(lease_ttl=3.0).redis.reply_timeout == 1.0


def test_defaults_by_machine() -> None:
    first, second = load(), load()
    assert first.encode_threads >= 1
    assert first.worker_id != second.worker_id
    assert first.secret == ""


def test_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "PARTITIONS": "16",
        "BATCH_MAX_SECONDS": "30.5",
        "OPUS_BITRATE": "24000",
        "OPUS_DTX": "true",
        "OPUS_APPLICATION": "voip",
        "OPUS_QUIET_COMPLEXITY": "2",
        "OPUS_QUIET_BITRATE": "12000",
        "SHUTDOWN": "handoff",
        "ENCRYPTION_SECRET": "x" * 32,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.partitions, settings.batch_max_seconds, settings.opus_bitrate) == (16, 30.5, 24000)
    assert settings.encoding.opus == OpusSettings(6, 24000, dtx=True, application="voip", quiet=Quiet(2, 12000))
    assert (settings.opus_dtx, settings.shutdown, settings.secret) == (True, "handoff", "x" * 32)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    unset = load()
    monkeypatch.setenv(name.upper(), "")
    assert load().model_dump(exclude={"worker_id"}) == unset.model_dump(exclude={"worker_id"})
    assert load().model_fields_set == set()
    assert load().worker_id != unset.worker_id


async def test_empty_emulator_is_an_unset_one_for_the_store_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")
    monkeypatch.setenv("STORE_URL", "gs://bucket")
    for store in (load().store.open(), open_store("gs://bucket")):
        assert isinstance(store, GcsStore)
        assert store._emulator_host is None
        await store.close()


WRONG = {
    "REDIS_URL": ["localhost:6379", "http://x", "redis://:6379/0", "redis://h?protocol=3"],
    "STORE_URL": ["s3://bucket", "gs://b", "/data", "file://relative", "gs:/bucket"],
    "ENCRYPTION_SECRET": ["short", "x" * 31, "ü" * 15],
    "PARTITIONS": ["0", "-1", "16385", "many", "1.5"],
    "STREAM_PREFIX": ["a b", "{x}", "x" * 65],
    "BATCH_MAX_SECONDS": ["0", "-1", "91", "nan", "inf", "a minute"],
    "BATCH_MAX_AGE": ["86401", "0", "-1", "nan", "inf"],
    "BATCH_MAX_BYTES": ["0", "-5", "8MB"],
    "GAP_TOLERANCE": ["-0.1", "86401", "nan", "inf"],
    "LEASE_TTL": ["0", "0.4", "3601", "nan", "inf"],
    "BLOB_CODEC": ["mp3", "OPUS"],
    "BLOB_NAMING": ["end"],
    "OPUS_COMPLEXITY": ["-1", "11"],
    "OPUS_BITRATE": ["5999", "510001", "fast"],
    "OPUS_DTX": ["perhaps"],
    "OPUS_APPLICATION": ["lowdelay", "AUDIO"],
    "OPUS_QUIET_COMPLEXITY": ["-1", "11", "on"],
    "OPUS_QUIET_BITRATE": ["5999", "510001", "off"],
    "ENCODE_THREADS": ["0", "257"],
    "UPLOAD_CONCURRENCY": ["0", "1025"],
    "MEMORY_LIMIT": ["0", "1048575"],
    "SPOOL_MODE": ["on"],
    "HTTP_PORT": ["-1", "65536", "http"],
    "LOG_LEVEL": ["loud"],
    "LOG_FORMAT": ["xml"],
    "SHUTDOWN": ["now"],
    "SHUTDOWN_GRACE": ["0", "86401", "inf"],
    "WORKER_ID": [" ", "a\nb", " a", "x" * 129],
    "REVISION": ["x" * 129],
    "STORAGE_EMULATOR_HOST": ["ftp://localhost:4443", "http://", "a b", ":4443"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_value_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    assert len(message) > len(name) + 10
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PARTITIONS", "0", "PARTITIONS is '0': it should be greater than or equal to 1"),
        ("LEASE_TTL", "nan", "LEASE_TTL is 'nan': it should be a finite number"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT is 'xml': it should be 'json' or 'console'"),
    ],
)
def test_wrong_value_is_quoted_with_what_it_should_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == sentence


def test_several_wrong_settings_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {name: values[0] for name, values in WRONG.items()} | {"SPOOL_MODE": "always"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert {line.split(" ")[0] for line in str(caught.value).splitlines()} == set(wrong)


@pytest.mark.parametrize(
    ("seconds", "tolerance", "split"),
    [
        ("60", "2", False),
        ("85", "2", False),
        ("88", "2", False),
        ("88.1", "2", True),
        ("90", "0", False),
        ("60", "31", True),
    ],
)
def test_readers_split_blobs_that_may_start_more_than_90_s_apart(
    monkeypatch: pytest.MonkeyPatch, seconds: str, tolerance: str, *, split: bool
) -> None:
    monkeypatch.setenv("BATCH_MAX_SECONDS", seconds)
    monkeypatch.setenv("GAP_TOLERANCE", tolerance)
    assert load().splits_files == split


def test_several_missing_settings_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        load().require_storage()
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == ["STORE_URL", "ENCRYPTION_SECRET"]


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_misspelt_variable_is_found_with_what_is_meant(name: str) -> None:
    wrong = set()
    for at, here in enumerate(name):
        before, after = name[:at], name[at + 1 :]
        wrong |= {before + after, f"{before}X{after}", before + 2 * here + after, before + after[:1] + here + after[1:]}
    wrong -= {field.upper() for field in Settings.model_fields}
    assert set(misspelt(wrong)) == wrong


def test_variables_of_others_do_not_look_misspelt() -> None:
    """Those of Kubernetes, Python and shells, and those that are ours."""
    others = (
        "PATH HOME HOSTNAME LANG TERM SHLVL COLUMNS PYTHONPATH PYTHON_VERSION KUBERNETES_SERVICE_HOST KUBERNETES_PORT"
        " REDIS_HOST REDIS_PORT REDIS_SERVICE_HOST REDIS_PORT_6379_TCP_ADDR HTTP_PROXY HTTPS_PROXY NO_PROXY POD_NAME"
        " GOOGLE_CLOUD_PROJECT GCE_METADATA_HOST LOGNAME DATABASE_URL redis_url Partitions"
    )
    assert misspelt([*others.split(), *(name.upper() for name in Settings.model_fields)]) == {}


def test_what_is_in_effect_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://alice:horse%23battery@redis:6378/3?ssl_ca_certs=/ca.pem")
    monkeypatch.setenv("ENCRYPTION_SECRET", "correct horse battery staple etc.")
    shown = load().public()
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    assert shown["REDIS_URL"] == "rediss://***@redis:6378?ssl_ca_certs=/ca.pem&db=3"
    assert (shown["ENCRYPTION_SECRET"], shown["ENCRYPTION_SECRETS_OLD"], shown["PARTITIONS"]) == ("***", "", 256)
    text = f"{json.dumps(shown)} {load()!r} {load().redis!r}"
    assert not re.search("alice|horse|battery", text)


def test_wrong_value_of_a_program_is_not_quoted_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url="redis://:horse#battery@redis")
    assert not re.search("horse|battery", str(caught.value))


@pytest.mark.parametrize("name", ["ENCRYPTION_SECRET", "ENCRYPTION_SECRETS_OLD"])
def test_secret_that_is_not_utf_8_is_refused_without_a_part_of_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "correct horse battery staple etc. \udcff")
    with pytest.raises(SettingsError, match=f"{name} is not valid UTF-8") as caught:
        load()
    assert "udcff" not in str(caught.value)


@pytest.mark.parametrize("secret", ["hunter2", "x" * 31])
def test_secret_is_never_quoted(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("ENCRYPTION_SECRET", secret)
    with pytest.raises(SettingsError) as caught:
        load()
    assert secret not in str(caught.value)


def test_spool_without_a_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOL_MODE", "outage")
    with pytest.raises(SettingsError, match="SPOOL_MODE needs SPOOL_DIR"):
        load()


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, "STORE_URL"),
        ({"STORE_URL": "gs://bucket"}, "ENCRYPTION_SECRET"),
        ({"ENCRYPTION_SECRET": "x" * 32}, "STORE_URL"),
    ],
)
def test_storing_needs_a_store_and_a_secret(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{missing} is not set"):
        load().require_storage()


def test_secret_shows_neither_in_text_nor_in_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_SECRET", "correct horse battery staple etc.")
    shown = f"{load()!r} {load()} {environment_names()}"
    assert "horse" not in shown


def test_every_variable_is_described() -> None:
    names = environment_names()
    assert set(names) == {name.upper() for name in Settings.model_fields}
    assert all(re.search(r"\[default: .+\]$", text) for text in names.values())
    assert names["LOG_LEVEL"].endswith("[default: info (or debug, warning, error)]")


def test_former_secrets_follow_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current, old, older = ("c" * 32, "o" * 32, "e" * 32)
    monkeypatch.setenv("ENCRYPTION_SECRET", current)
    monkeypatch.setenv("ENCRYPTION_SECRETS_OLD", f"{old},\r\n{older}\n")

    assert load().secrets == [current, old, older]
    assert old not in repr(load())


def test_no_secret_at_all_is_an_empty_sequence() -> None:
    assert load().secrets == []


def test_a_former_secret_that_is_too_short_is_refused_without_being_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_SECRETS_OLD", f"{'o' * 32},tiny-one")

    with pytest.raises(SettingsError, match="ENCRYPTION_SECRETS_OLD number 2 has 8 bytes") as caught:
        load()

    assert "tiny" not in str(caught.value)


def test_authority_and_login_of_redis_become_options_of_its_url(tmp_path: Path) -> None:
    authority = self_signed("localhost", tmp_path)
    made = Settings(redis_url="rediss://h", redis_ca_file=authority, redis_auth="google-iam")
    assert made.redis.url == f"rediss://h?ssl_ca_certs={authority}&auth=google-iam"
    assert made.public()["REDIS_CA_FILE"] == str(authority)
    assert Settings(redis_url="rediss://h?db=1", redis_ca_file=authority).redis.url.startswith("rediss://h?db=1&ssl")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"REDIS_URL": "rediss://h", "REDIS_CA_FILE": "{missing}"},
            "REDIS_CA_FILE names {missing}, which can't be read: No",
        ),
        (
            {"REDIS_URL": "rediss://h", "REDIS_CA_FILE": "{empty}"},
            "REDIS_CA_FILE names {empty}, which holds no certificates",
        ),
        (
            {"REDIS_URL": "redis://h", "REDIS_CA_FILE": "{empty}"},
            "REDIS_CA_FILE needs TLS: begin REDIS_URL with rediss://",
        ),
        (
            {"REDIS_URL": "rediss://h?ssl_ca_certs=/a", "REDIS_CA_FILE": "{empty}"},
            "REDIS_CA_FILE is set, and REDIS_URL has ssl_ca_certs: give one of the two",
        ),
        ({"REDIS_AUTH": "aws"}, "REDIS_AUTH is 'aws': it should be 'password' or 'google-iam'"),
        (
            {"REDIS_URL": "redis://:secret@h", "REDIS_AUTH": "google-iam"},
            "REDIS_URL has a password, but an access token",
        ),
    ],
)
def test_access_to_redis_that_makes_no_sense_is_one_sentence(
    variables: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"missing": str(tmp_path / "missing.pem"), "empty": str(tmp_path / "empty.pem")}
    Path(files["empty"]).touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(**files))
    with pytest.raises(SettingsError) as caught:
        load()
    assert sentence.format(**files) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
