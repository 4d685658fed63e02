"""Joins Opus packets of 20 ms that follow each other into packets of up to 120 ms.

One call of libopus then decodes six frames. A call that lasts only ten microseconds gives Python's lock back and takes
it again so often that two threads which decode get in each other's way: together they decode a minute in 26 ms packet
by packet and in 18 ms this way, where one alone takes 35 and 33.

The samples are the same, but where audio exceeds full scale: libopus softens such peaks, in each packet for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_FRAMES = 6  # the longest packet holds 120 ms (RFC 6716, section 3.1)
MAX_PACKET_BYTES = 1276  # one frame of at most 1275 bytes and its table-of-contents byte (RFC 6716, section 3.4)

# The table-of-contents byte is configuration (5 bits) | stereo | code (2 bits), section 3.1. Of the 32 configurations
# these have frames of 20 ms; code 0 is a packet of one frame, code 3 of any number.
CONFIGURATIONS_OF_20_MS = (1, 5, 9, 13, 15, 19, 23, 27, 31)
ONE_FRAME_OF_20_MS = frozenset(
    configuration << 3 | stereo << 2 for configuration in CONFIGURATIONS_OF_20_MS for stereo in (0, 1)
)
ANY_NUMBER_OF_FRAMES = 3
SIZES_VARY = 0x80  # in the second byte of code 3: the size of every frame but the last one follows (section 3.2.5)


def _frame_size(size: int) -> bytes:
    if size < 252:  # section 3.2.1
        return bytes((size,))
    low = 252 + size % 4
    return bytes((low, (size - low) // 4))


FRAME_SIZES = [_frame_size(size) for size in range(MAX_PACKET_BYTES)]


def repacketized(packets: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The same frames in fewer packets, each with the number of the first packet that it came from.

    Only neighbours of one frame of 20 ms and one configuration are joined. All others pass as they are: the empty, the
    malformed, and those of other durations.
    """
    group: list[bytes] = []
    number, joinable = 0, -1
    for number, packet in enumerate(packets):
        if packet and packet[0] == joinable and len(packet) <= MAX_PACKET_BYTES and len(group) < MAX_FRAMES:
            group.append(packet)
            continue
        if group:
            yield number - len(group), _joined(group)
        group = [packet]
        joinable = packet[0] if packet and packet[0] in ONE_FRAME_OF_20_MS and len(packet) <= MAX_PACKET_BYTES else -1
    if group:
        yield number + 1 - len(group), _joined(group)


def _joined(group: Sequence[bytes]) -> bytes:
    if len(group) == 1:
        return group[0]
    head = bytes((group[0][0] | ANY_NUMBER_OF_FRAMES, SIZES_VARY | len(group)))
    sizes = [FRAME_SIZES[len(packet) - 1] for packet in group[:-1]]
    return b"".join([head, *sizes, *[packet[1:] for packet in group]])
