"""A second decoder of stored blobs, written from the format's description and sharing no code with the first."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from codec.libopus import library


def second_decode(name: str, data: bytes, metadata: Mapping[str, str], secret: str) -> bytes:
    """PCM at the metadata's sample rate: `samples` of them, aligned."""
    _, uid, _, file = name.split("/")
    content = decrypt(data, secret, uid) if file.endswith(".enc") else data
    if metadata["codec"] == "pcm":
        return content
    pcm = opus_pcm(content, int(metadata["sample-rate"]))
    skip, samples = int(metadata["pre-skip"]), int(metadata["samples"])
    return pcm[2 * skip : 2 * (skip + samples)]


def plainly_decode(data: bytes, uid: str, secret: str) -> bytes:
    """What a reader hears of an encrypted Opus blob without its metadata: all of it at 16 kHz, look-ahead included."""
    content = decrypt(data, secret, uid)
    (pcm_bytes,) = struct.unpack_from("<I", content, 4)
    return opus_pcm(content, 16000)[:pcm_bytes]


def decrypt(blob: bytes, secret: str, uid: str) -> bytes:
    """u32 big-endian length | 12-byte nonce | AES-256-GCM, repeated; HKDF-SHA256 with the uid as salt."""
    extracted = hmac.digest(uid.encode(), secret.encode(), hashlib.sha256)
    key = hmac.digest(extracted, b"user-data-encryption\x01", hashlib.sha256)
    content = b""
    while blob:
        size = int.from_bytes(blob[:4], "big")
        content += AESGCM(key).decrypt(blob[4:16], blob[16 : 4 + size], None)
        blob = blob[4 + size :]
    return content


def opus_pcm(content: bytes, rate: int) -> bytes:
    """Every frame of a container: u32 count | u32 PCM bytes | (u16 length | packet)…, little-endian."""
    opus = ctypes.CDLL(library().path)
    opus.opus_decoder_create.restype = ctypes.c_void_p
    decoder = ctypes.c_void_p(opus.opus_decoder_create(rate, 1, None))
    (count,) = struct.unpack_from("<I", content)
    samples = rate // 50
    pcm, frame, position = [], ctypes.create_string_buffer(2 * samples), 8
    for _ in range(count):
        (size,) = struct.unpack_from("<H", content, position)
        position += 2 + size
        assert opus.opus_decode(decoder, content[position - size : position], size, frame, samples, 0) == samples
        pcm.append(frame.raw)
    opus.opus_decoder_destroy(decoder)
    assert position == len(content)
    return b"".join(pcm)
