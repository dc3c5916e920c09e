"""How the page looks: colours, fonts, style sheet and script, all of them its own."""

import json
from pathlib import Path

import gradio as gr

from serving_kit.stylenet.styles import STYLES

HERE = Path(__file__).parent
#: Fonts that the visitor's machine has; none is fetched.
FONTS = ["system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif"]
#: By day, and by night where the visitor's machine is set to that.
COLORS = {
    f"{name}{suffix}": color
    for name, *pair in (
        ("body_background_fill", "#f7f4ee", "#15191e"),
        ("background_fill_primary", "#fffdf9", "#1c2229"),
        ("block_background_fill", "#fffdf9", "#1c2229"),
        ("block_label_background_fill", "#fffdf9", "#1c2229"),
        ("input_background_fill", "#f1ede4", "#252c34"),
        ("border_color_primary", "#dfd9cc", "#38414b"),
        ("block_border_color", "#dfd9cc", "#38414b"),
        ("body_text_color", "#22303c", "#e9e5dc"),
        ("body_text_color_subdued", "#5f6b75", "#a3abb3"),
        ("block_label_text_color", "#5f6b75", "#a3abb3"),
        ("slider_color", "#2b5c8c", "#7fb0dd"),
        ("button_primary_background_fill", "#2b5c8c", "#2b5c8c"),
        ("button_primary_background_fill_hover", "#234c74", "#3a6fa3"),
        ("button_primary_text_color", "#ffffff", "#ffffff"),
        ("button_secondary_background_fill", "#ece6da", "#2b333c"),
        ("button_secondary_background_fill_hover", "#e2dac9", "#36404a"),
        ("button_secondary_text_color", "#22303c", "#e9e5dc"),
    )
    for suffix, color in zip(("", "_dark"), pair, strict=True)
} | {"block_radius": "14px", "button_large_radius": "10px", "color_accent": "#3b76ad"}


def look(path: str) -> dict[str, object]:
    """Return theme, style sheet and script of a page under a path; none asks another host."""
    theme = gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]).set(**COLORS)
    squares = "".join(
        f".styles label:nth-child({i + 1}) {{ --square: {i}; }}" for i in range(len(STYLES))
    )
    pictures = f".styles {{ --pictures: url({json.dumps(f'{path}/styles.jpg')}); }}"
    css = (HERE / "page.css").read_text(encoding="utf-8") + squares + pictures
    script = f"const PATH = {json.dumps(path)};\n" + (HERE / "page.js").read_text(encoding="utf-8")
    return {
        "theme": theme,
        "css": css,
        "head": f"<script>{script}</script>",
    }
