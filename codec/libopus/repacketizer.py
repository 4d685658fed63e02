"""Joins Opus packets of 20 ms that follow each other into packets of up to 120 ms.

One call of libopus then decodes six frames. Calls that last only ten microseconds release and take Python's lock so
often that two decoding threads slow each other down. Two threads together decode a minute in 26 ms packet by packet,
and in 18 ms this way; one thread alone takes 35 ms and 33 ms.

The samples are the same, except where audio exceeds full scale: libopus softens such peaks in each packet separately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from codec.container import HEADER, PACKET_LENGTH, packets, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def repacketized(container: bytes) -> Iterator[tuple[int, bytes]]:
    """The frames of a container in fewer packets, each with the number of the first packet that it came from.

    Only neighbours that have one frame of 20 ms each and the same configuration are joined. All other packets pass
    unchanged: empty and malformed packets, and packets of other durations.

    Raises:
        BadBlob: as `container.packets`; this function does not call it because of its time per packet.
    """
    length, end, offset = PACKET_LENGTH.unpack_from, len(container), HEADER.size
    joinable, number = -1, -1
    frames: list[bytes] = []
    for number in range(read_header(container).packet_count):
        start = offset + PACKET_LENGTH.size
        if start > end:
            _complain(container)
        offset = start + length(container, offset)[0]
        if offset > end:
            _complain(container)
        first = container[start] if 0 < offset - start <= MAX_PACKET_BYTES else -1
        if first == joinable >= 0 and len(frames) < MAX_FRAMES:
            frames.append(container[start + 1 : offset])
            continue
        if frames:
            yield number - len(frames), _packet(joinable, frames)
        joinable, frames = -1, []
        if first in ONE_FRAME_OF_20_MS:
            joinable, frames = first, [container[start + 1 : offset]]
        else:
            yield number, container[start:offset]
    if frames:
        yield number + 1 - len(frames), _packet(joinable, frames)


def _packet(first: int, frames: Sequence[bytes]) -> bytes:
    if len(frames) == 1:
        return bytes((first,)) + frames[0]
    head = bytes((first | ANY_NUMBER_OF_FRAMES, SIZES_VARY | len(frames)))
    return b"".join([head, *[FRAME_SIZES[len(frame)] for frame in frames[:-1]], *frames])


def _complain(container: bytes) -> NoReturn:
    for _ in packets(container):
        pass
    raise AssertionError("unreachable: a truncated container has a packet that is refused")
