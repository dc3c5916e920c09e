"""The demo's page in a real browser, on the real server.py and a real Triton."""

import http.client
import io
import os
import signal
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import demo_page
import httpx
import numpy as np
import pytest
from demo_page import CAT, FILES
from PIL import Image
from playwright.sync_api import expect

from serving_kit.client.images import decode_image, read_image, recover_image, to_model
from serving_kit.client.inference import infer
from serving_kit.models import ALL_STYLES, SIZE
from serving_kit.stylenet.styles import STYLES, style_weights

#: Mean difference, of 255, of what JPEG and a size of its own make of the same painting.
SAME = 9
TIDY_SECONDS = 60
#: More at once than page.py lets be painted and wait, which are 34.
CROWD = 40
HEALTH = "#painter[data-painter='{}']"


@pytest.fixture(autouse=True)
def no_error_in_the_console(seen):
    yield
    assert seen.errors == []


def open_page(page, demo):
    page.goto(demo.url)
    page.locator("#style").wait_for()
    return page


def drop(page, file):
    page.locator("#photo input[type=file]").set_input_files(file)


def painting(page, name):
    """Wait for the painting of this name and return its pixels."""
    image = page.locator(f"#painted img[src$='/{name}.jpg']")
    image.wait_for()
    return decode_image(page.request.get(image.get_attribute("src")).body())


def pick(page, style, where="#style"):
    page.locator(f"{where} input[value={style}]").click()


def toast(page):
    """Wait for a message and return what it says beside its cross."""
    return page.locator(".toast-body").last.inner_text().strip("×\n ")


def expected(weights, triton):
    """The cat, painted by the model itself."""
    photo = read_image(CAT)
    image = to_model(photo, SIZE, SIZE)
    answer = infer(image, style_weights(weights), model=ALL_STYLES, url=triton.url)
    return recover_image(answer, *photo.shape[:2])


def difference(one, other):
    return np.abs(one.astype(int) - other).mean()


def test_each_style_is_painted_as_its_picture_shows(page, demo):
    """Also: the progress bar, and the gallery, from which a style is picked."""
    page.add_init_script(
        "window.seen = []; new MutationObserver(() => {"
        " const bar = document.querySelector('#progress progress');"
        " if (bar) seen.push(bar.value) }).observe(document, {subtree: true, childList: true})"
    )
    drop(open_page(page, demo), CAT)
    painting(page, "starry_night")
    assert pictures_of_styles(page) == [
        (style, f'url("{demo.url}styles.jpg")', pytest.approx(100 * i / 25))
        for i, style in enumerate(STYLES)
    ]
    page.locator("#paint-all").click()
    expect(page.locator("#gallery img")).to_have_count(len(STYLES), timeout=60_000)
    page.locator("#progress progress").wait_for(state="detached")
    assert len(page.evaluate("[...new Set(seen)]")) > 10
    assert page.locator("#gallery .caption-label").all_inner_texts()[0] == "Amber mist"

    row = cv2.imread(str(FILES / "styles.jpg"))
    side = row.shape[0]
    squares = [row[:, i * side : (i + 1) * side] for i in range(len(STYLES))]
    for i, image in enumerate(page.locator("#gallery img").all()):
        source = image.get_attribute("src")
        assert source.endswith(f"/{STYLES[i]}.jpg")
        middle = decode_image(page.request.get(source).body())[:, 75:375]
        middle = cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA)
        # What is painted looks like its picture, more than like any other.
        assert np.argmin([difference(middle, square) for square in squares]) == i

    page.locator("#gallery button.thumbnail-item").nth(1).click()
    assert painting(page, STYLES[1]).shape == (300, 451, 3)
    expect(page.locator(f"#style input[value={STYLES[1]}]")).to_be_checked()
    page.locator("#style label").last.click()
    painting(page, STYLES[-1])


def pictures_of_styles(page):
    """Return the value, the picture, and the place in it, in %, of each style one can pick."""
    labels = page.locator("#style label").evaluate_all(
        "labels => labels.map(label => {"
        " const {backgroundImage, backgroundPositionX} = getComputedStyle(label, '::before');"
        " return [label.querySelector('input').value, backgroundImage, backgroundPositionX] })"
    )
    return [(style, picture, float(place.rstrip("%"))) for style, picture, place in labels]


def test_two_styles_are_blended(page, demo, triton):
    drop(open_page(page, demo), CAT)
    painting(page, "starry_night")
    page.locator("#blend button").first.click()
    pick(page, "golden_ink", "#second")
    half = painting(page, "starry_night_golden_ink")
    assert difference(half, expected({"starry_night": 0.5, "golden_ink": 0.5}, triton)) < SAME
    assert difference(half, expected("starry_night", triton)) > 2 * SAME
    page.locator("#percent input[type=number]").fill("100")
    page.locator("#percent input[type=number]").blur()
    assert difference(painting(page, "golden_ink"), expected("golden_ink", triton)) < SAME


def test_behind_a_proxy_a_painting_is_compared_and_downloaded(page, demo, proxy, triton, tmp_path):
    """The proxy takes the path off, which all other tests leave."""
    proxy.behind = int(demo.url.split(":")[2].split("/")[0])
    page.goto(f"http://127.0.0.1:{proxy.server_port}/demo")
    page.locator("#examples img").first.click()
    painting(page, "starry_night")
    picture = f'url("http://127.0.0.1:{proxy.server_port}/demo/styles.jpg")'
    assert {found for _, found, _ in pictures_of_styles(page)} == {picture}
    page.locator(HEALTH.format("ready")).wait_for()
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "starry_night.jpg"
    download.value.save_as(tmp_path / "painting.jpg")
    saved = read_image(tmp_path / "painting.jpg")
    assert difference(saved, expected("starry_night", triton)) < SAME
    # Before and after lie on each other, whole.
    boxes = [image.bounding_box() for image in page.locator("#painted img").all()]
    assert boxes[0] == boxes[1]
    assert boxes[0]["width"] / boxes[0]["height"] == pytest.approx(451 / 300, rel=0.01)
    page.goto("about:blank")  # where nobody asks for health any more


def test_on_a_phone_in_chinese(chinese_phone, demo, tmp_path):
    phone = open_page(chinese_phone, demo)
    expect(phone.locator("h1")).to_have_text("把照片画成画", use_inner_text=True)
    expect(phone.locator("#painter")).to_have_text("可以作画", use_inner_text=True)
    assert phone.locator("#style label").first.inner_text().strip() == "琥珀薄雾"
    english = phone.locator("main").inner_text()
    # Nothing is left in English but the names of what runs here.
    for name in ("OneFlow", "Triton"):
        english = english.replace(name, "")
    assert not any(letter.isascii() and letter.isalpha() for letter in english), english
    (tmp_path / "text.png").write_text("no picture")
    drop(phone, tmp_path / "text.png")
    assert toast(phone).startswith("无法读取此文件")
    drop(phone, CAT)
    painting(phone, "starry_night")
    pick(phone, "red_ember")
    painting(phone, "red_ember")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    for part in ("#photo", "#painted", "#download", "#paint-all"):
        box = phone.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, part


def test_what_goes_wrong_is_told_and_what_comes_next_is_painted(page, demo, way, tmp_path):
    open_page(page, demo)
    (tmp_path / "text.png").write_text("no picture")
    drop(page, tmp_path / "text.png")
    assert "not a picture" in toast(page)
    page.get_by_label("Remove Image").click()
    (tmp_path / "phone.heic").write_bytes(HEIC)
    drop(page, tmp_path / "phone.heic")
    expect(page.locator(".toast-body", has_text="export it as JPEG")).to_be_visible()
    page.get_by_label("Remove Image").click()
    (tmp_path / "noise.png").write_bytes(os.urandom(40_000_000))
    drop(page, tmp_path / "noise.png")
    expect(page.locator(".toast-body", has_text="20 MB")).to_be_visible()
    text = page.locator("body").inner_text()
    assert "/tmp" not in text
    assert "Traceback" not in text
    drop(page, CAT)
    painting(page, "starry_night")
    with way.cut():
        page.locator(HEALTH.format("away")).wait_for()
        pick(page, "red_ember")
        expect(page.locator(".toast-body", has_text="is not responding")).to_be_visible()
        page.locator("#again").wait_for()
    # Nobody touches the page: it sees that Triton is back and paints what it owes.
    painting(page, "red_ember")
    page.locator(HEALTH.format("ready")).wait_for()
    page.locator("#again").wait_for(state="detached")


class Proxy(BaseHTTPRequestHandler):
    """Takes the path /demo off, as some proxies do."""

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body):
        path = self.path.removeprefix("/demo") or "/"
        headers = {k: v for k, v in self.headers.items() if k.lower() != "accept-encoding"}
        headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": "http"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        connection.request(self.command, path, body, headers)
        with connection.getresponse() as answer:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() != "transfer-encoding":
                    self.send_header(name, value)
            self.end_headers()
            while block := answer.read1():
                self.wfile.write(block)
        connection.close()

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def jpeg(*shape):
    return encoded(".jpg", np.full((*shape, 3), 128, np.uint8))


def encoded(ending, pixels):
    return cv2.imencode(ending, pixels)[1].tobytes()


def saved(mode, form, **options):
    file = io.BytesIO()
    Image.new(mode, (90, 60)).save(file, form, **options)
    return file.getvalue()


def bomb(side, whole=False):
    """A PNG of a few kB that says it has side x side pixels, and, if whole, has them."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 4 * side) * side if whole else 10**7), 1)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hidden_frame():
    """A JPEG of 8 x 8 pixels for a reader that believes that the marker TEM has a length."""
    content = bytearray(jpeg(64, 48))
    frame = content.index(b"\xff\xc0")
    small = content[frame : frame + 19]
    content[frame + 5 : frame + 9] = struct.pack(">HH", 32_000, 32_000)
    content[frame:frame] = b"\xff\x01"
    small[5:9] = struct.pack(">HH", 8, 8)
    return bytes(content[:-2] + bytes(70_000) + small + b"\xff\xda\0\2\xff\xd9")


def without_data():
    """A PNG without picture data; what follows its end names a chunk of 2 GB."""
    whole = bomb(9, whole=True)
    return whole[:33] + whole[-12:] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt1234"


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
TWO_FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (90, 60), "red")]}


def test_hostile_files_are_painted_or_refused_politely(demo):
    noise = os.urandom(40_000_000)
    with demo.visitor() as visitor:
        cat = CAT.read_bytes()
        for content in (
            jpeg(1, 1),
            jpeg(10, 20_000),
            jpeg(20_000, 1),
            saved("CMYK", "JPEG"),
            saved("I;16", "PNG"),
            saved("LA", "PNG"),
            bomb(7000, whole=True),
        ):
            painting = decode_image(visitor.paint(visitor.upload(content)))
            assert max(painting.shape) <= 1600
        for content in (
            cat[: len(cat) // 2], cat[:100], SVG, b"hello", b"", saved("RGB", "GIF", **TWO_FRAMES),
            saved("RGB", "WEBP", **TWO_FRAMES),
        ):  # fmt: skip
            kind, answer = visitor.ask_to_paint(visitor.upload(content, "photo.png"))
            assert (kind, "not a picture" in answer["error"]) == ("error", True), content[:10]
        for content, said in (
            (bomb(30_000), "million pixels"),
            (HEIC, "export it as JPEG"),
            (hidden_frame(), "million pixels"),
            (without_data(), "not a picture"),
        ):
            kind, answer = visitor.ask_to_paint(visitor.upload(content))
            assert (kind, said in answer["error"]) == ("error", True), said
        with pytest.raises(httpx.HTTPStatusError, match="413"):
            visitor.upload(noise)
        assert visitor.paint(visitor.upload(cat))
    assert demo.most_megabytes() < 1000
    assert not any(file.read_bytes()[:1000] == noise[:1000] for file in demo.files())


NAMES = [
    "../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "%2e%2e%2fevil.png", "evil\0.png",
    "$(touch evil).png", "<b>evil.png", "e" * 300 + "vil.png", "~evil.png", "C:\\evil", "猫.png",
]  # fmt: skip


def test_names_lead_nowhere(demo):
    """Whatever a file is called, it lands in the temporary folder, and is painted."""
    elsewhere = set(demo.folder.rglob("*")) | set(demo.temporary.iterdir())
    small = jpeg(30, 40)
    with demo.visitor() as visitor:
        for name in NAMES:
            photo = visitor.upload(small, name)
            assert demo.scratch in Path(photo["path"]).resolve().parents
            assert visitor.paint(photo)
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            visitor.upload(small, "..")
    assert set(demo.folder.rglob("*")) | set(demo.temporary.iterdir()) == elsewhere


def test_files_of_the_machine_and_of_other_hosts_are_no_photos(demo, proxy):
    """A request may name any path or address as its photo, or as its style."""
    secret = demo.folder / "secret.jpg"
    secret.write_bytes(jpeg(31, 41))  # like no other photo of these tests
    proxy.behind = 0
    address = f"http://127.0.0.1:{proxy.server_port}/cat.jpg"
    with demo.visitor() as visitor:
        photo = visitor.upload(CAT.read_bytes())
        for path in (str(secret), f"{photo['path']}/../../../../zip/secret.jpg", address):
            for hidden in (demo_page.photo_at(path), {"path": path}):
                assert visitor.ask_to_paint(hidden)[0] == "error"
                assert visitor.ask_to_paint(photo, hidden)[0] == "error"
            assert visitor.get(f"gradio_api/file={path}").status_code >= 400
        for nonsense in ("text", 5, [], {}, {"path": ""}, {"path": None, "url": "data:,x"}):
            assert visitor.ask_to_paint(nonsense)[0] == "error" or nonsense == {}
        for wanted in (("no style",), ({"a": 1},), ("red_ember", "no style"), ("red_ember",) * 3):
            assert visitor.ask_to_paint(photo, *wanted)[0] == "error"
        # What the page is made of names no folder of this machine but the temporary one.
        told = visitor.get("").text + visitor.get("config").text
        assert str(demo.folder) not in told
    assert secret.read_bytes() not in [file.read_bytes() for file in demo.files()]


def test_all_files_go_after_a_while_at_ctrl_c_and_after_a_kill(make_demo, page):
    """Of a page of its own, without a path and on all addresses, which is opened, too."""
    killed, demo = make_demo(), make_demo(DEMO_KEEP_SECONDS="1", DEMO_HOST="0.0.0.0")
    demo.options["TMPDIR"] = killed.options["TMPDIR"]
    demo.temporary = killed.temporary
    try:
        killed.launch()
        while not (left := list(killed.temporary.glob("*/.lock"))):
            assert killed.process.poll() is None, killed.log()
            time.sleep(0.1)
        killed.kill()
        assert left[0].exists()
        demo.start()
        assert not left[0].exists()
        at_rest = set(demo.files())
        assert {"cat.jpg", "coffee.jpg"} <= {file.name for file in at_rest}
        with demo.visitor() as visitor:
            photo = visitor.upload(jpeg(30, 40))
            visitor.paint(photo)
            assert len(demo.files()) == len(at_rest) + 3
            deadline = time.monotonic() + TIDY_SECONDS
            while len(demo.files()) > len(at_rest) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert set(demo.files()) == at_rest
            kind, answer = visitor.ask_to_paint(photo)
            assert (kind, "drop it again" in answer["error"]) == ("error", True)
        open_page(page, demo).locator("#examples img").first.click()
        painting(page, "starry_night")
        assert pictures_of_styles(page)[0][1] == f'url("{demo.url}styles.jpg")'
        page.locator(HEALTH.format("ready")).wait_for()
        page.goto("about:blank")
        assert demo.stop(signal.SIGINT) == 0
        assert list(killed.temporary.iterdir()) == []
    finally:
        killed.kill()
        demo.kill()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"DEMO_PORT": "many"}, "DEMO_PORT and DEMO_KEEP_SECONDS must be numbers"),
        ({"DEMO_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_page_that_cannot_start_says_why(make_demo, option, said):
    page = make_demo(**option)
    with pytest.raises(AssertionError):
        page.start()
    assert page.process.returncode == 1
    assert page.log().startswith("error: ")
    assert said in page.log()
    assert page.log().count("\n") == 1


def test_a_crowd_is_painted_or_refused_politely(demo, way):
    """Each gets the own photo in the own style; as many as find no room are told so."""

    def visit(user):
        with demo.visitor() as visitor:
            style = STYLES[user % len(STYLES)]
            photo = visitor.upload(demo_page.photo_of(user))
            kind, answer = visitor.ask_to_paint(photo, style)
            if kind == "refused":
                full.set()
                return kind, "full" in str(answer)
            address = answer[1]["value"]["url"]
            picture = decode_image(visitor.get(address).raise_for_status().content)
            return kind, address.endswith(f"/{style}.jpg") and picture.shape[1] == 300 + user

    full = threading.Event()
    with ThreadPoolExecutor(CROWD) as pool:
        with way.held():  # until there are more than are painted at once and may wait
            visits = [pool.submit(visit, user) for user in range(CROWD)]
            assert full.wait(60)
        outcomes = {visit.result() for visit in visits}
    assert outcomes == {("complete", True), ("refused", True)}
    with demo.visitor() as visitor:
        assert visitor.paint(visitor.upload(CAT.read_bytes()))
