from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.metadata import BlobMetadata

MAPPING = {
    "codec": "opus",
    "sample-rate": "16000",
    "samples": "960000",
    "pre-skip": "104",
    "start": "1700000000.500",
    "chunks": "12",
    "first-entry": "1700000000500-0",
    "last-entry": "1700000055500-3",
    "seqs": "0-11",
    "worker-version": "0.1.0",
}


def test_keys_and_values_of_a_stored_blob() -> None:
    metadata = BlobMetadata(
        codec="opus",
        sample_rate=16000,
        samples=960000,
        pre_skip=104,
        start=1700000000.5,
        chunks=12,
        first_entry="1700000000500-0",
        last_entry="1700000055500-3",
        seqs="0-11",
        worker_version="0.1.0",
    )
    assert metadata.to_mapping() == MAPPING
    assert BlobMetadata.from_mapping(MAPPING) == metadata


def test_key_id_is_optional() -> None:
    assert BlobMetadata(key_id="k1").to_mapping() == {"key-id": "k1"}
    assert BlobMetadata.from_mapping(MAPPING | {"key-id": "k1"}).key_id == "k1"


def test_blob_without_metadata_says_nothing() -> None:
    assert BlobMetadata.from_mapping({}) == BlobMetadata()
    assert BlobMetadata().to_mapping() == {}


def test_foreign_keys_are_ignored() -> None:
    assert BlobMetadata.from_mapping({"v2_end": "1.5", "goog-reserved": "x"}) == BlobMetadata()


def test_what_writers_in_production_say_of_plain_pcm_is_understood() -> None:
    theirs = {"v2_start": "1700000000.0005", "v2_samples": "40000", "v2_sample_rate": "8000"}

    assert BlobMetadata.from_mapping(theirs) == BlobMetadata(start=1700000000.0005, samples=40000, sample_rate=8000)
    assert BlobMetadata.from_mapping(theirs | {"samples": "7"}).samples == 7


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "1e3", " 1", "9" * 16, "\u0661"])
def test_count_that_makes_no_sense_counts_as_missing(value: str) -> None:
    assert BlobMetadata.from_mapping({"samples": value, "pre-skip": value, "sample-rate": value}) == BlobMetadata()


@pytest.mark.parametrize("value", ["0", "7999", "192001"])
def test_impossible_sample_rate_counts_as_missing(value: str) -> None:
    assert BlobMetadata.from_mapping({"sample-rate": value}).sample_rate is None


@pytest.mark.parametrize("value", ["", "nan", "inf", "-1.0", "1e3", "9" * 16])
def test_start_that_makes_no_sense_counts_as_missing(value: str) -> None:
    assert BlobMetadata.from_mapping({"start": value}).start is None


@given(st.dictionaries(st.sampled_from([*MAPPING, "key-id", "other"]), st.text()))
def test_arbitrary_metadata_is_read_without_complaint(mapping: dict[str, str]) -> None:
    metadata = BlobMetadata.from_mapping(mapping)
    assert metadata.pre_skip is None or metadata.pre_skip >= 0
