"""The demo's verdict on audio: it must not praise what is late, short or noisy."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.support.speech import speech_array
from worker.demo.fidelity import compare

RATE = 16000
ORIGINAL = speech_array(6, RATE)
BLOBS = [4 * RATE, 2 * RATE]


@pytest.fixture
def without_pesq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def test_the_original_itself_is_exact_and_gets_the_best_score() -> None:
    fidelity = compare(ORIGINAL, ORIGINAL, RATE, BLOBS)
    assert fidelity.exact
    assert fidelity.lags == (0, 0)
    assert fidelity.measure == "WB-PESQ"
    assert fidelity.score == pytest.approx(4.644, abs=0.001)  # the top of ITU-T P.862.2


@pytest.mark.parametrize("lag", [-7, 1, 300])
def test_a_lag_is_found_in_the_blob_that_has_it(lag: int) -> None:
    late = np.concatenate([ORIGINAL[: BLOBS[0]], np.roll(ORIGINAL[BLOBS[0] :], lag)])
    fidelity = compare(ORIGINAL, late, RATE, BLOBS)
    assert fidelity.lags == (0, lag)
    assert not fidelity.exact


def test_a_missing_sample_is_not_exact() -> None:
    fidelity = compare(ORIGINAL, ORIGINAL[:-1], RATE, BLOBS)
    assert (fidelity.pushed_samples, fidelity.heard_samples) == (6 * RATE, 6 * RATE - 1)
    assert not fidelity.exact


def test_narrowband_speech_is_compared_as_such() -> None:
    narrow = speech_array(6, 8000)
    fidelity = compare(narrow, narrow, 8000, [len(narrow)])
    assert fidelity.measure == "NB-PESQ"
    assert fidelity.score == pytest.approx(4.549, abs=0.001)  # the top of ITU-T P.862.1


@pytest.mark.usefixtures("without_pesq")
def test_without_pesq_more_noise_gives_a_larger_spectral_distance() -> None:
    noise = np.random.default_rng(1).normal(0, 1, len(ORIGINAL))
    noisy = [np.clip(ORIGINAL + noise * level, -32768, 32767).astype(np.int16) for level in (0, 20, 200)]
    found = [compare(ORIGINAL, decoded, RATE, BLOBS) for decoded in noisy]
    scores = [fidelity.score or 0.0 for fidelity in found]
    assert {fidelity.measure for fidelity in found} == {"spectral distance"}
    assert scores[0] == 0 < scores[1] < scores[2]


@pytest.mark.parametrize("pesq", [True, False])
def test_silence_has_no_score_and_no_lag(pesq: bool, request: pytest.FixtureRequest) -> None:
    if not pesq:
        request.getfixturevalue("without_pesq")
    silence = np.zeros(RATE, np.int16)
    fidelity = compare(silence, silence, RATE, [RATE])
    assert fidelity.score is None
    assert fidelity.exact
