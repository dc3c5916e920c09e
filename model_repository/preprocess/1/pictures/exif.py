"""The way a camera was held: the tag Orientation of EXIF, which JPEG, PNG and WebP may carry."""

import struct

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION = 0x0112
#: How the value of a tag is stored: EXIF asks for SHORT, and some programs write LONG.
_SHORT_OR_LONG = {3: "H", 4: "I"}
#: The picture is stored as it is to be seen.
UPRIGHT = 1


def read_orientation(exif: bytes) -> int:
    """Return how a picture is to be turned, 1 to 8; 1, not at all, where EXIF is broken.

    Args:
        exif: a TIFF header and what follows, with or without ``Exif`` and two zeros before it.
            CIPA DC-008 (EXIF 2.32), 4.5 and 4.6.4.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        order = _BYTE_ORDERS[exif[:4]]
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, place)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _SHORT_OR_LONG[kind], exif, place + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except (KeyError, struct.error):
        return UPRIGHT
    return UPRIGHT
