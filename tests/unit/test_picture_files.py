"""Files made so that a check and a decoder might see different pictures: all are refused."""

import pytest
from picture_bytes import (
    DATA,
    END,
    FRAME,
    FRAME_END,
    HALVES,
    JPEG,
    LOSSLESS,
    LOSSY,
    ROWS,
    SCAN,
    SMALL,
    ZEROS,
    before_frame,
    canvas,
    chunk,
    frame,
    in_scan,
    png,
    segment,
    webp,
    with_frame,
)

from serving_kit.client.pictures import PictureError, check, decode

REFUSED = {
    "TEM has no length, and hides the frame": (
        JPEG[:FRAME] + b"\xff\x01" + frame(32_000, 32_000) + JPEG[FRAME_END:-2]
        + bytes(70_000) + SMALL + b"\xff\xd9",
        "has 32000 x 32000 pixels, 1024 million; expected 52 million at most",
    ),
    "a restart that hides the frame": (
        JPEG[:FRAME] + b"\xff\xd0" + frame(32_000, 32_000) + JPEG[FRAME_END:],
        "has 32000 x 32000 pixels, 1024 million; expected 52 million at most",
    ),
    "fillings before the frame": (
        JPEG[:FRAME] + b"\xff" * 9 + frame(32_000, 32_000) + JPEG[FRAME_END:],
        "has 32000 x 32000 pixels, 1024 million; expected 52 million at most",
    ),
    "a second frame": (before_frame(frame(8, 8)), "is a damaged JPEG: it has several frames"),
    "a frame behind the scan": (
        JPEG[:-2] + frame(8, 8) + JPEG[-2:], "is a damaged JPEG: it has several frames",
    ),
    "a scan before the frame": (
        before_frame(segment(0xDA, bytes(6))), "is a damaged JPEG: a scan precedes the frame",
    ),
    "a second beginning": (before_frame(b"\xff\xd8"), "is a damaged JPEG: it has the marker 0xd8"),
    "a reserved marker in a scan": (in_scan(b"\xff\x02\0\2"), "is a damaged JPEG: it has the mark"),
    "a length of 0": (
        before_frame(b"\xff\xe5\0\0"), "is a damaged JPEG: a segment has the length 0",
    ),
    "a length of 1": (
        before_frame(b"\xff\xfe\0\1"), "is a damaged JPEG: a segment has the length 1",
    ),
    "a length beyond the end": (
        JPEG[:-2] + b"\xff\xe5\xff\xff\xff\xd9", "is a JPEG that was cut off",
    ),
    "no scan": (JPEG[:SCAN] + b"\xff\xd9", "is a damaged JPEG: it has no picture data"),
    "a height that follows later": (with_frame(60, 0), "has 60 x 0 pixels; expected 1 or more"),
    "12 bits": (with_frame(60, 40, bits=12), "is a JPEG with 12 bits per colour; expected 8"),
    "10 components": (
        with_frame(60, 40, components=10), "is a damaged JPEG: its frame has 10 components in 40",
    ),
    "a frame that is too short": (
        before_frame(segment(0xC0, bytes(3))), "is a damaged JPEG: its frame has",
    ),
    **{
        f"frame 0x{marker:x}": (
            with_frame(60, 40, marker=marker), "is a lossless, hierarchical or arithmetic JPEG"
        )
        for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
    },
    "no picture data, and the length of a chunk behind the end": (
        png(END, b"\x7f\xff\xff\xff", b"tEXt1234"), "is a damaged PNG: it has no picture data",
    ),
    "one pixel without data": (
        png(END, width=1, height=1, bits=1), "is a damaged PNG: it has no picture data",
    ),
    "picture data without a byte": (
        png(chunk(b"IDAT"), END), "is a damaged PNG: it has no picture data",
    ),
    "picture data behind the end": (png(END, DATA), "is a damaged PNG: it has no picture data"),
    "less data than pixels": (
        png(DATA, END, width=60, height=41), "is a damaged PNG: it has less data than pixels",
    ),
    "more data than pixels": (
        png(chunk(b"IDAT", ZEROS), END), "is a damaged PNG: it has more data than pixels",
    ),
    "damaged data": (
        png(chunk(b"IDAT", ROWS[:99] + bytes(99) + ROWS[198:]), END),
        "is a damaged PNG: its picture data cannot be unpacked",
    ),
    "scattered picture data": (
        png(HALVES[0], chunk(b"tEXt"), HALVES[1], END),
        "is a damaged PNG: its part IDAT is out of place",
    ),
    "a second size": (
        png(png(width=30_000, height=30_000)[8:], DATA, END),
        "is a damaged PNG: its part IHDR is out of place",
    ),
    "a size that is not the first": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt") + png(DATA, END)[8:],
        "is a damaged PNG: its part tEXt is out of place",
    ),
    "a size that is too long": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(14)) + DATA + END,
        "is a damaged PNG: it has no header",
    ),
    "nothing at all": (b"\x89PNG\r\n\x1a\n" + END, "is a damaged PNG: it has no header"),
    "a palette behind the data": (
        png(DATA, chunk(b"PLTE", bytes(6)), END), "is a damaged PNG: its part PLTE is out of place",
    ),
    "no palette": (png(DATA, END, colour=3), "is a damaged PNG: it has no palette"),
    "3 bits": (png(DATA, END, bits=3), "is a damaged PNG: its header has unknown numbers"),
    "of Apple's own kind": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)) + png(DATA, END)[8:],
        "is a damaged PNG: its part CgBI is unknown",
    ),
    "a chunk beyond the end": (
        png(DATA, b"\x7f\xff\xff\xffzTXt", END), "is a PNG that was cut off",
    ),
    "a canvas that is larger": (
        webp(canvas(16_000, 3000), LOSSY),
        "is a damaged WebP: its frame of 60 x 40 pixels does not fill the picture",
    ),
    "two frames": (
        webp(canvas(60, 40), LOSSY, LOSSY), "is a damaged WebP: it has several pictures",
    ),
    "frames of both kinds": (
        webp(canvas(60, 40), LOSSY, LOSSLESS), "is a damaged WebP: it has several pictures",
    ),
    "two canvases": (
        webp(canvas(60, 40), canvas(60, 40), LOSSY), "is a damaged WebP: it has several pictures",
    ),
    "no frame": (webp(canvas(60, 40)), "is a damaged WebP: it has no picture data"),
    "a frame that needs others": (
        webp((b"VP8 ", bytes([LOSSY[1][0] | 1]) + LOSSY[1][1:])),
        "is a damaged WebP: its frame has no header",
    ),
    "a lossless frame without its mark": (
        webp((b"VP8L", b"\x2e" + LOSSLESS[1][1:])), "is a damaged WebP: its frame has no header",
    ),
    "a huge lossless frame": (
        webp((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(20))),
        "has 16384 x 16384 pixels, 268 million; expected 52 million at most",
    ),
    "a chunk beyond the end of a WebP": (
        webp((b"XMP ", b"")).replace(bytes(4), b"\xff\xff\xff\x7f"), "is a WebP that was cut off",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_it_is_decoded(name):
    content, sentence = REFUSED[name]
    for way in (check, decode):
        with pytest.raises(PictureError) as refused:
            way(content)
        assert str(refused.value).startswith(sentence)
