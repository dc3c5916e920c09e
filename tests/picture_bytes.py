"""Picture files in their parts, for tests that put them together otherwise."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from serving_kit.paths import CAT


def saved(kind, size=(60, 40), mode="RGB", **options):
    """Return the bytes of a small picture as Pillow writes it."""
    with Image.open(CAT) as cat:
        picture = cat.convert(mode).resize(size)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def segment(marker, data=b""):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def frame(width, height, marker=0xC0, bits=8, components=3):
    rest = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    return segment(marker, struct.pack(">BHHB", bits, height, width, components) + rest)


JPEG = saved("JPEG")
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
FRAME_END = FRAME + 19
SMALL = frame(8, 8) + b"\xff\xda\0\2"


def before_frame(content):
    return JPEG[:FRAME] + content + JPEG[FRAME:]


def in_scan(content):
    return JPEG[: SCAN + 30] + content + JPEG[SCAN + 30 :]


def with_frame(*arguments, **named):
    return JPEG[:FRAME] + frame(*arguments, **named) + JPEG[FRAME_END:]


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, width=60, height=40, bits=8, colour=0, interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


GREY = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
ROWS = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY))
DATA, END = chunk(b"IDAT", ROWS), chunk(b"IEND")
HALVES = (chunk(b"IDAT", ROWS[:500]), chunk(b"IDAT", ROWS[500:]))
ZEROS = zlib.compress(bytes(50_000_000), 9)


def webp(*chunks):
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width, height, flags=0):
    sides = ((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides)


LOSSY = (b"VP8 ", saved("WebP")[20:])
LOSSLESS = (b"VP8L", saved("WebP", lossless=True)[20:])
