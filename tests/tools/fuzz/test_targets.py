"""The fuzzer's targets accept what they are to start from, so that a finding is one."""

from __future__ import annotations

import pytest

from tests.tools.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_seeds_that_pass_and_survives_nothing_and_noise(target: str) -> None:
    found = seeds()[target]

    assert found
    for data in (*found, b"", b"\0", bytes(range(256)), found[0][:-1]):
        TARGETS[target](data)
