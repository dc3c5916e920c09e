"""Mutate picture files, and have each checked and decoded: ``fuzz_pictures.py FIRST LAST REPORT``.

Run by unit/test_pictures_fuzz.py in a process of its own, because a decoder may crash it. The
report, JSON, says how many files were decoded and refused, and what the dearest cost; while it runs
it holds the number of the file at hand, so that a crash can be repeated: the same number gives the
same file.
"""

import io
import json
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from picture_bytes import chunk
from PIL import Image

from serving_kit.client.pictures import PictureError, check, decode

#: No process that decodes pictures may need more address space: see pictures.memory.
ADDRESS_SPACE = 4 << 30
LENGTHS = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF)
SIDES = (1, 8, 60, 1000, 3000, 8000, 16_383, 65_500)
JPEG_MARKERS = bytes([0x00, 0x01, 0x02, 0xBF, *range(0xC0, 0x100)])


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def originals() -> list[bytes]:
    """Return small good files of every kind, half of them with notes of a camera."""
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    rgba = Image.fromarray(colours).resize((61, 43), Image.Resampling.BICUBIC)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return [
        saved(rgb, "JPEG"),
        saved(rgb, "JPEG", progressive=True, exif=exif),
        saved(rgb, "JPEG", restart_marker_blocks=2, subsampling=0),
        saved(grey, "JPEG", exif=exif),
        saved(rgba.convert("CMYK"), "JPEG", progressive=True),
        saved(rgb, "JPEG") + saved(grey, "JPEG"),
        saved(rgb, "PNG", exif=exif),
        saved(rgba, "PNG"),
        saved(rgb.convert("P"), "PNG", transparency=3),
        saved(grey.convert("1"), "PNG"),
        saved(deep, "PNG", exif=exif),
        adam7(rgb),
        saved(rgb, "WebP", exif=exif),
        saved(rgb, "WebP", lossless=True),
        saved(rgba, "WebP", exif=exif),
        saved(rgba, "WebP", lossless=True, exif=exif),
    ]


def adam7(picture: Image.Image) -> bytes:
    """Return an interlaced PNG, which Pillow does not write: the seven pictures in a row."""
    pixels, rows = np.asarray(picture), []
    for y, x, down, right in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):  # fmt: skip
        rows += [b"\0" + row.tobytes() for row in pixels[y::down, x::right]]
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 1)
    data = zlib.compress(b"".join(rows))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def flip_bits(content: bytearray, chance: random.Random, _) -> None:
    """Flip some bits, half of the times near the start, where the headers are."""
    most = len(content) if chance.random() < 0.5 else min(len(content), 100)
    for _ in range(chance.randrange(1, 9)):
        content[chance.randrange(most)] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random, _) -> None:
    """Leave out some bytes, often the last ones."""
    start = chance.randrange(2, len(content))
    end = len(content) if chance.random() < 0.5 else start + chance.randrange(99)
    del content[start:end]


def repeat(content: bytearray, chance: random.Random, _) -> None:
    """Insert a piece of the file somewhere else in it."""
    start = chance.randrange(len(content))
    place = chance.randrange(2, len(content))
    content[place:place] = content[start : start + chance.randrange(1, 400)]


def set_length(content: bytearray, chance: random.Random, _) -> None:
    """Write a number of two or four bytes, as lengths and sizes have."""
    size, order = chance.choice([(2, "big"), (4, "big"), (4, "little"), (3, "little")])
    place = chance.randrange(2, len(content))
    value = chance.choice([*LENGTHS, chance.randrange(1 << 16)]) % (1 << 8 * size)
    content[place : place + size] = value.to_bytes(size, order)


def resize(content: bytearray, chance: random.Random, _) -> None:
    """Write another size where the format has it, and the right sum behind it."""
    sides = [chance.choice(SIDES), chance.choice(SIDES)]
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", *sides)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif content.startswith(b"\xff\xd8"):
        frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"), 0)
        content[frame + 5 : frame + 9] = struct.pack(">HH", *sides)
    else:
        width, height = (min(side, 16_383) for side in sides)
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        for kind in (b"VP8X", b"VP8L", b"VP8 "):
            place = content.find(kind)
            if place > 0 and kind == b"VP8X":
                content[place + 12 : place + 18] = canvas
            elif place > 0 and kind == b"VP8L":
                bits = width - 1 | height - 1 << 14 | content[place + 12] >> 4 << 28
                content[place + 9 : place + 13] = struct.pack("<I", bits)
            elif place > 0:
                content[place + 14 : place + 18] = struct.pack("<HH", width, height)


def insert_marker(content: bytearray, chance: random.Random, _) -> None:
    """Insert a marker of a JPEG, sometimes with a length, or put one in place of another."""
    marker = bytes([0xFF, chance.choice(JPEG_MARKERS)])
    places = [at for at in range(2, len(content) - 1) if content[at] == 0xFF and content[at + 1]]
    place = chance.choice(places) if places and chance.random() < 0.8 else chance.randrange(2, 99)
    length = chance.choice([b"", b"\0\2", b"\0\0", b"\xff\xff", b"\0\x08\x01\x02\x03\x04\x05\x06"])
    content[place : place + chance.choice([0, 2])] = marker + length


def splice(content: bytearray, chance: random.Random, others: list[bytes]) -> None:
    """Go on with the end of another file."""
    other = chance.choice(others)
    content[chance.randrange(8, len(content)) :] = other[chance.randrange(len(other)) :]


def move_chunks(content: bytearray, chance: random.Random, others: list[bytes]) -> None:
    """Swap, repeat, rename, drop or take over whole chunks of a PNG or WebP, with right sums."""
    riff = content.startswith(b"RIFF")
    if not riff and not content.startswith(b"\x89PNG"):
        return insert_marker(content, chance, others)
    parts = split(bytes(content), riff)
    donors = [other for other in others if other[:4] == content[:4]]
    for _ in range(chance.randrange(1, 4)):
        i, j = chance.randrange(len(parts)), chance.randrange(len(parts))
        what = chance.randrange(6)
        if what == 0:
            parts[i], parts[j] = parts[j], parts[i]
        elif what == 1:
            parts.insert(i, parts[j])
        elif what == 2 and len(parts) > 1:
            del parts[i]
        elif what == 3:
            parts[i] = (chance.choice(parts)[0], parts[i][1])
        elif what == 4:
            parts.insert(i, chance.choice(split(chance.choice(donors), riff)))
        else:
            data = bytearray(parts[i][1] or b"\0")
            flip_bits(data, chance, others)
            parts[i] = (parts[i][0], bytes(data))
    content[:] = joined(parts, riff)
    return None


def split(content: bytes, riff: bool) -> list[tuple[bytes, bytes]]:
    """Return kind and data of each chunk."""
    place, parts = 12 if riff else 8, []
    while place + 8 <= len(content):
        if riff:
            kind, (size,) = content[place : place + 4], struct.unpack_from("<I", content, place + 4)
        else:
            kind, (size,) = content[place + 4 : place + 8], struct.unpack_from(">I", content, place)
        parts.append((kind, content[place + 8 : place + 8 + size]))
        place += 8 + size + (size % 2 if riff else 4)
    return parts or [(b"tEXt", b"")]


def joined(parts: list[tuple[bytes, bytes]], riff: bool) -> bytes:
    """Return the file of these chunks."""
    if not riff:
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


MUTATIONS: tuple[Callable, ...] = (
    flip_bits, cut, repeat, set_length, resize, insert_marker, splice, move_chunks,
)  # fmt: skip


def mutated(number: int, files: list[bytes]) -> bytes:
    """Return the file of this number: always the same."""
    chance = random.Random(number)
    content = bytearray(files[number % len(files)])
    for _ in range(chance.choice([1, 1, 2, 3])):
        if len(content) > 200:
            chance.choice(MUTATIONS)(content, chance, files)
    return bytes(content)


def peak_bytes() -> int:
    """Return the most memory that this process has had since ``forget_peak``."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> int:
    """Begin to look for the peak anew, and return the memory that the process has."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def main() -> None:
    """Try the files FIRST to LAST - 1."""
    first, last, report = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    files = originals()
    for content in files:
        decode(content)
    found = {"decoded": 0, "refused": 0, "most_bytes": 0, "most_seconds": 0.0, "sentences": []}
    sentences = set()
    for number in range(first, last):
        report.write_text(str(number))
        content = mutated(number, files)
        before, began = forget_peak(), time.process_time()
        try:
            file = check(content)
            height, width, _ = decode(content).shape
            turned = file.orientation > 4
            size = (file.height, file.width) if turned else (file.width, file.height)
            assert (width, height) == size, number
            found["decoded"] += 1
        except PictureError as error:
            found["refused"] += 1
            sentences.add(str(error))
        found["most_bytes"] = max(found["most_bytes"], peak_bytes() - before)
        found["most_seconds"] = max(found["most_seconds"], time.process_time() - began)
    found["sentences"] = sorted(sentences)
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
