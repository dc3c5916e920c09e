"""The styles' names, and what a mistyped one says."""

import re

import numpy as np
import pytest

from serving_kit.errors import StyleError
from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES, style_index, style_weights


def test_26_names_that_can_be_typed():
    assert len(set(STYLES)) == 26
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in STYLES)
    assert DEFAULT_STYLE in STYLES


def test_a_style_is_its_name_its_index_or_the_index_in_digits():
    assert style_index("starry_night") == style_index(19) == style_index("19") == 19


def test_a_typo_is_told_the_nearest_name():
    with pytest.raises(StyleError, match="'stary_nigt' does not exist; write \"starry_night\""):
        style_index("stary_nigt")


def test_a_name_like_no_other_is_told_all():
    with pytest.raises(StyleError, match=r"'42x' does not exist; write one of amber_mist, "):
        style_index("42x")


@pytest.mark.parametrize("style", [26, "26", -1])
def test_an_index_out_of_range(style):
    with pytest.raises(StyleError, match="does not exist"):
        style_index(style)


def test_a_style_s_weights_are_one_row():
    assert style_weights("starry_night").tolist() == np.eye(26)[[19]].tolist()
    blend = style_weights({"amber_mist": 0.25, "25": 0.5, 0: 0.25})
    assert blend.dtype == np.float32 and blend.shape == (1, 26)
    assert (blend[0, 0], blend[0, 25], blend.sum()) == (0.5, 0.5, 1)
    with pytest.raises(StyleError, match='write "red_ember"'):
        style_weights({"red_amber": 1})
