"""The widgets of the demo's page, and what happens when a visitor touches them."""

import contextlib
import traceback
from collections.abc import Iterator
from html import escape
from pathlib import Path

import fastapi
import gradio as gr
from gradio import processing_utils
from look import look
from painter import PageError, Painter
from scratch import EVERY_SECONDS
from words import LANGUAGES, language_of, say, translations

from serving_kit.client.pictures import MOST_PIXELS
from serving_kit.client.uploads import MAX_BYTES
from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES

HERE = Path(__file__).parent
SECOND_STYLE = "red_ember"
#: Paintings at once; other requests wait in the queue, and beyond its size they are refused.
PAINTERS, QUEUE = 2, 32
#: What the page says of Triton; "offline" if the page's own server does not respond.
HEALTH = ("ready", "slow", "starting", "away", "offline")
PHOTO_HEIGHT = 440
EXAMPLES = [[str(HERE / name)] for name in ("cat.jpg", "coffee.jpg") if (HERE / name).exists()]
I18N = gr.I18n(**translations())
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}


@contextlib.contextmanager
def told_in(language: str) -> Iterator[None]:
    """Show a visitor an error in one sentence; log errors that are not the visitor's."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, PageError):
            traceback.print_exc()
        key = str(error) if isinstance(error, PageError) else "broken"
        limits = {"megabytes": MAX_BYTES // 1_000_000, "megapixels": MOST_PIXELS // 1_000_000}
        raise gr.Error(say(key, language, **limits), print_exception=False) from None


def language_from(request: gr.Request) -> str:
    """Return the language of the browser that a request came from."""
    return language_of(request.headers.get("accept-language", ""))


def both(key: str, **values: object) -> str:
    """Return HTML that says something in each language; the style sheet shows one of them."""
    return "".join(
        f'<span lang="{language}">{escape(say(key, language, **values))}</span>'
        for language in LANGUAGES
    )


def bar(done: int, language: str) -> str:
    """Return a progress bar in HTML; nothing when nothing is to be done any more."""
    total = len(STYLES)
    if done == total:
        return ""
    text = say("progress", language, done=done, total=total)
    return f'<progress max="{total}" value="{done}"></progress><span>{text}</span>'


def build(painter: Painter) -> gr.Blocks:
    """Return the page."""
    keep = painter.scratch.keep_seconds
    with gr.Blocks(
        title="OneFlow + Triton", analytics_enabled=False, delete_cache=(EVERY_SECONDS, keep)
    ) as page:
        gr.HTML(_header(), elem_id="header", padding=False)
        with gr.Row(elem_id="stage", equal_height=True):
            photo = gr.Image(
                type="filepath", sources=["upload", "webcam", "clipboard"], buttons=[],
                label=I18N("photo"), elem_id="photo", height=PHOTO_HEIGHT, min_width=280,
            )  # fmt: skip
            with gr.Column(elem_id="result", min_width=280):
                empty = gr.HTML(f"<p>{both('empty')}</p>", elem_id="empty", padding=False)
                painted = gr.ImageSlider(
                    type="filepath", interactive=False, visible=False, buttons=["fullscreen"],
                    label=I18N("painted"), elem_id="painted", max_height=PHOTO_HEIGHT,
                )  # fmt: skip
        with gr.Row(elem_id="below"):
            gr.Examples(EXAMPLES, photo, label=I18N("examples"), elem_id="examples")
            again = gr.Button(I18N("again"), elem_id="again", visible=False)
            download = gr.DownloadButton(
                I18N("download"), elem_id="download", visible=False, variant="primary"
            )
        gr.HTML(f"<h2>{both('pick')}</h2>", elem_id="pick", padding=False)
        style = _pictures_of_styles(DEFAULT_STYLE, "style")
        with gr.Accordion(I18N("blend"), open=False, elem_id="blend"):
            percent = gr.Slider(0, 100, 0, step=5, label=I18N("percent"), elem_id="percent")
            second = _pictures_of_styles(SECOND_STYLE, "second")
        paint_all = gr.Button(I18N("paint all"), elem_id="paint-all")
        progress = gr.HTML("", elem_id="progress", padding=False)
        gallery = gr.Gallery(
            label=I18N("gallery"), elem_id="gallery", visible=False, allow_preview=False,
            columns=6, height="auto", object_fit="cover", buttons=[],
        )  # fmt: skip
        minutes = max(1, round(keep / 60))
        gr.HTML(f"<p>{both('footer', minutes=minutes)}</p>", elem_id="footer", padding=False)

        # The example's copy stays when the files of visitors go.
        photo.keep_in_cache |= photo.temp_files
        wanted = [photo, style, second, percent]

        def on_paint(photo, style, second, percent, request: gr.Request):
            if not photo:
                return gr.update(value=None, visible=False), hidden, hidden, gr.update(visible=True)
            with told_in(language_from(request)):
                before, after = painter.paint(photo, style, second, percent)
            shown = gr.update(value=(before, after), visible=True)
            return shown, gr.update(value=after, visible=True), hidden, hidden

        def on_paint_all(photo, request: gr.Request):
            language = language_from(request)
            pictures = []
            with told_in(language):
                yield bar(0, language), gr.update(value=[], visible=True)
                for style, path in painter.paint_all(photo):
                    pictures.append((path, say(style, language)))
                    yield bar(len(pictures), language), pictures

        def on_too_large(request: gr.Request):
            with told_in(language_from(request)):
                raise PageError("too large")

        def on_pick(event: gr.SelectData):
            return STYLES[event.index]

        hidden = gr.update(visible=False)
        paint = {
            "fn": on_paint, "inputs": wanted, "outputs": [painted, download, again, empty],
            "preprocess": False, "trigger_mode": "always_last",
            "show_progress_on": [painted, empty],
            "concurrency_limit": PAINTERS, "concurrency_id": "paint",
        }  # fmt: skip
        picked = gallery.select(on_pick, None, style, queue=False, **PRIVATE)
        touched = [photo.change, style.input, second.input, percent.change, again.click]
        for painting in (
            gr.on(touched, **paint, api_name="paint"),
            picked.then(**paint, api_visibility="private"),
        ):
            painting.failure(lambda: gr.update(visible=True), None, again, queue=False, **PRIVATE)
        # page.js keeps what is too large in the browser, and has it told by this.
        too_large = gr.Button(visible="hidden", elem_id="too-large")
        too_large.click(on_too_large, None, None, concurrency_limit=None, **PRIVATE)
        # Who picks a second style wants to see some of it.
        second.input(None, percent, percent, js="(percent) => percent || 50", **PRIVATE)
        everything = paint_all.click(
            on_paint_all, photo, [progress, gallery],
            preprocess=False, show_progress_on=progress, show_progress="minimal",
            concurrency_limit=1, concurrency_id="all", api_name="paint_all",
        )  # fmt: skip
        everything.failure(lambda: "", None, progress, queue=False, **PRIVATE)
    page.queue(max_size=QUEUE)
    return page


def _header() -> str:
    return (
        f"<h1>{both('title')}</h1><p class='sentence'>{both('sentence')}</p>"
        f'<p id="painter" role="status" data-painter="ready" data-most="{MAX_BYTES}">'
        + "".join(f'<span class="{state}">{both(state)}</span>' for state in HEALTH)
        + "</p>"
    )


def _pictures_of_styles(value: str, name: str) -> gr.Radio:
    """Return a choice of one style; the style sheet shows each as a square of styles.jpg."""
    return gr.Radio(
        [(I18N(style), style) for style in STYLES], value=value, label=I18N(name),
        elem_id=name, elem_classes="styles", container=False,
    )  # fmt: skip


async def fetch_nothing(*_: object, **__: object) -> None:
    """Stand in for gradio's download of whatever address a visitor's request names."""
    raise gr.Error(say("not a picture", "en"), print_exception=False)


def mount(app: fastapi.FastAPI, painter: Painter, path: str) -> None:
    """Put the page under a path of an application: "/demo", for example, or ""."""
    page = build(painter)
    page.has_launched = True  # else gradio takes any file of this machine for an uploaded one
    processing_utils.async_ssrf_protected_download = fetch_nothing
    gr.mount_gradio_app(
        app, page, path or "/", ssr_mode=False, show_error=False, i18n=I18N,
        max_file_size=MAX_BYTES, footer_links=[], run_history=False, enable_monitoring=False,
        mcp_server=False, pwa=False, **look(path),
    )  # fmt: skip
