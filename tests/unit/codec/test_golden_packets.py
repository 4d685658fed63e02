"""Packets that are pinned: a libopus that encodes or decodes otherwise shows here, before it does in stored audio."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from codec.container import packets
from codec.entry import SAMPLE_RATES
from codec.libopus import library
from codec.libopus.builds import fitting_builds
from codec.opus import Encoder, decode
from codec.opus.effort import Quiet
from tests.support.paths import ROOT

GOLDEN = Path(__file__).parent / "golden"
VERSION = "libopus 1.6.1"
BUILDS = dict(fitting_builds(Path(sys.prefix, "libopus")))
"""By name: those that .ci/setup has made, as deploy/Dockerfile does."""

ENCODED: dict[int, str] = {
    8000: "c724ee4a15d2b0007ce9f6f683ae6da127c784f76100d3a9134935b72b3ba22a",
    12000: "0961f81e4405faecc266452a8115e1980d9281ae4d3c76b8952d1b43bb7f0728",
    16000: "95929fd430b5885df93d4fd5c1f285437754462e20788f3dea6768a78b151fff",
}
"""By rate: SHA-256 of a container that VERSION made of `signal`, on every x86-64. Other processors round otherwise."""

ENCODED_SIZES_AND_SILK: dict[int, tuple[str, str]] = {
    24000: (
        "f6c8aefd2fe468daec72314603a51ee1a62ec2ae5764db5e18225c2194da293c",
        "e455345429d8fb287453493e7358ff0cb5a50434567ddf8025023718e1c46225",
    ),
    48000: (
        "cf1178acf71c5f7fa288592b6295aa0d22b9c9cf56c47da7bdf46c6b93424d86",
        "a3f9848e4b55378f34908c902822f859795ebb79f4cc57fc8d46b893ed07c4c8",
    ),
}
"""By rate: SHA-256 of the sizes of the packets that VERSION made of `signal`, and of what they hold at 16 kHz.

From 24 kHz on, packets are hybrid: SILK up to 8 kHz, CELT above. CELT searches its pulses with RSQRTPS and RCPPS
(celt/x86/vq_sse2.c). These instructions give an approximation to 12 bits, and Intel, AMD and emulators differ in the
rest. So the bits of the pulses are not pinned. Their number does not depend on them, and at 16 kHz only SILK is heard.
"""

DECODED: dict[int, str] = {
    8000: "5e76ac5df89a6ffbc10b9aff37306d8e243ea53c0eb638032e78db4cc835cfda",
    12000: "afaffc4ecb84773062004d5cab0a57d4c473c6953522fdae2fe71f77e03a6ce1",
    16000: "5546fa8375ab1ae31ed3e58daccc6c49f83f538cef500d980ad0cefd4c45599f",
    24000: "3752416e3cd1dbb8a5921305ba8b9ad0b9988c72a08b4cf079491821c42d8f3d",
    48000: "b76331e0ce39281fffd2b7b8a50cdd79204e590bc6825e3579e063da17e8f053",
}
"""By rate: SHA-256 of what golden/16000.opus is decoded to. Old libraries and other processors agree on it."""


def signal(rate: int) -> bytes:
    """Three seconds: a voice-like buzz that glides, soft noise, and the buzz again. It is made without rounding."""
    random, samples, phase = Random(21), [], 0
    for number in range(3 * rate):
        loud = not rate <= number < 2.5 * rate
        phase = (phase + 110 + number * 60 // rate) % rate
        buzz = abs(2 * phase - rate) * 12000 // rate - 6000 if loud else 0
        samples.append(buzz + random.getrandbits(6) - 32)
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def encoded(rate: int) -> bytes:
    encoder = Encoder(rate, complexity=6, quiet=Quiet(complexity=1, bitrate=None))
    encoder.encode(signal(rate))
    return encoder.finish()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


made_here = pytest.mark.skipif(
    platform.machine() != "x86_64" or library().version != VERSION,
    reason=f"the packets are those of {VERSION} on x86-64",
)


@made_here
@pytest.mark.parametrize("rate", ENCODED)
def test_same_packets_as_ever_are_made(rate: int) -> None:
    assert sha256(encoded(rate)) == ENCODED[rate], "another libopus, or other settings of it"


@made_here
@pytest.mark.parametrize("rate", ENCODED_SIZES_AND_SILK)
def test_hybrid_packets_have_the_same_sizes_and_speech_as_ever(rate: int) -> None:
    container = encoded(rate)
    sizes = ",".join(str(len(packet)) for packet in packets(container))
    made = sha256(sizes.encode()), sha256(decode(container, sample_rate=16000))
    assert made == ENCODED_SIZES_AND_SILK[rate], "another libopus, or other settings of it"


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_stored_packets_are_decoded_as_ever(rate: int) -> None:
    pcm = decode((GOLDEN / "16000.opus").read_bytes(), sample_rate=rate)
    assert sha256(pcm) == DECODED[rate]


WITH_ANOTHER_BUILD = f"""
import json, sys
import codec.libopus
codec.libopus._bundled_builds = lambda: {{sys.argv[1]: "another"}}
from tests.unit.codec import {Path(__file__).stem} as golden
assert golden.library().path == sys.argv[1]
print(json.dumps([golden.encoded(16000).hex(), golden.decoded_by_rate()]))
"""


def decoded_by_rate() -> dict[str, str]:
    container = (GOLDEN / "16000.opus").read_bytes()
    return {str(rate): sha256(decode(container, sample_rate=rate)) for rate in SAMPLE_RATES}


@pytest.mark.skipif(not BUILDS, reason="this processor can run the portable build only")
@pytest.mark.parametrize("name", BUILDS)
def test_build_for_newer_processors_decodes_alike_and_makes_packets_of_the_same_kind(name: str) -> None:
    command = [sys.executable, "-c", WITH_ANOTHER_BUILD, str(BUILDS[name])]
    printed = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True).stdout
    container, decodings = json.loads(printed)
    assert decodings == {str(rate): digest for rate, digest in DECODED.items()}
    theirs, ours = list(packets(bytes.fromhex(container))), list(packets(encoded(16000)))  # FMA rounds otherwise
    assert [packet[0] for packet in theirs] == [packet[0] for packet in ours]
    assert abs(sum(map(len, theirs)) / sum(map(len, ours)) - 1) < 0.01
