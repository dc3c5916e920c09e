"""The names of the 26 styles, and of the models that paint in them.

No framework is imported here, so that ``--help`` is quick.
"""

from collections.abc import Mapping

import numpy as np

from serving_kit.errors import StyleError, did_you_mean

#: The styles in the order of the weights. The network came without names; these were chosen by
#: looking at the contact sheet that ``make styles`` draws.
STYLES = (
    "amber_mist",
    "yellow_blocks",
    "charcoal_peach",
    "carnival_glass",
    "crimson_pastel",
    "autumn_oil",
    "violet_speckle",
    "primary_colors",
    "magenta_crayon",
    "slate_and_rose",
    "copper_etching",
    "golden_ink",
    "lilac_haze",
    "lime_woodcut",
    "frosted_teal",
    "stained_glass",
    "indigo_pastel",
    "woven_ribbons",
    "carved_parchment",
    "starry_night",
    "red_ember",
    "pink_collage",
    "inked_porcelain",
    "dusky_gouache",
    "cream_wave",
    "pebble_mosaic",
)

DEFAULT_STYLE = "starry_night"

#: The models: one style, folded in; and all of them, weighted by a second input.
ONE_STYLE, ALL_STYLES = "fast_neural_style", "multi_style"
#: Height and width that they take, as in their config.pbtxt.
SIZE = 256


def style_index(style: str | int) -> int:
    """Return the row of a style in the weights.

    Args:
        style: a name from ``STYLES``, or its index as an int or in digits: 0 to 25.

    Raises:
        StyleError: there is no such style; the nearest name is suggested.
    """
    if isinstance(style, int) or style.isdecimal():
        if 0 <= int(style) < len(STYLES):
            return int(style)
        raise StyleError(f"style {style} does not exist: the styles are 0 to {len(STYLES) - 1}")
    if style in STYLES:
        return STYLES.index(style)
    raise StyleError(f"style {style!r} does not exist; {did_you_mean(style, STYLES)}")


def style_weights(shares: str | int | Mapping[str | int, float]) -> np.ndarray:
    """Return a row of INPUT_1 of the model multi_style: how much of each style.

    Args:
        shares: a style, or the share of each of several, ``{"starry_night": 0.7, "red_ember":
            0.3}``. Shares usually add up to 1; the network takes any, and more than 1 in all
            exaggerates.

    Returns:
        float32 (1, 26).

    Raises:
        StyleError: there is no such style.
    """
    weights = np.zeros((1, len(STYLES)), np.float32)
    for style, share in (shares if isinstance(shares, Mapping) else {shares: 1}).items():
        weights[0, style_index(style)] += share
    return weights
