import numpy as np
import pytest

from codec.opus.speech_gate import BLOCKS_PER_SECOND, SpeechGate
from tests.support.noises import FULL_SCALE
from tests.tools.bench.audio import MINUTE_BYTES, RATE
from tests.tools.bench.cost import QUIET_SHARE
from tests.tools.bench.scenes import DAY, Minute, Span, day, speech_share


def level(minute: Minute, span: Span) -> float:
    """In dBFS."""
    part = minute.samples[round(span.start * RATE) : round((span.start + span.seconds) * RATE)]
    return float(10 * np.log10(np.square(part, dtype=float).mean() / FULL_SCALE**2))


def test_every_scene_is_a_minute_and_the_same_every_time() -> None:
    minutes = day()
    day.cache_clear()
    assert [len(minute.pcm) for minute in minutes] == [MINUTE_BYTES] * len(DAY)
    assert [minute.pcm for minute in day()] == [minute.pcm for minute in minutes]


def test_somebody_speaks_in_28_percent_of_the_day() -> None:
    assert speech_share() == pytest.approx(0.283, abs=0.001)


@pytest.mark.parametrize("number", range(len(DAY)), ids=[scene.name for scene in DAY])
def test_levels_are_those_that_the_scene_names(number: int) -> None:
    minute = day()[number]
    for span in minute.scene.spans:
        assert level(minute, span) == pytest.approx(minute.scene.speech_level, abs=2)
    lead = min((span.start for span in minute.scene.spans), default=60)
    assert level(minute, Span(0, lead)) == pytest.approx(minute.scene.noise_level, abs=5)


def test_the_cost_is_computed_for_the_quiet_share_of_this_day() -> None:
    gate_quiet = []
    for minute in day():
        gate, step = SpeechGate(RATE), RATE // BLOCKS_PER_SECOND
        blocks = (minute.samples.data[at : at + step] for at in range(0, len(minute.samples), step))
        gate_quiet += [gate.quiet_blocks(block) > 0 for block in blocks]
    assert np.mean(gate_quiet) == pytest.approx(QUIET_SHARE, abs=0.01)
