"""Pictures of every kind become the same float32 batch, and come back in their own size."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from serving_kit.client.images import (
    contact_sheet,
    load_image,
    read_image,
    recover_image,
    side_by_side,
    write_image,
)
from serving_kit.errors import HeicError, ImageError
from serving_kit.paths import CAT

RED, WHITE = [0, 0, 255], [255, 255, 255]


@pytest.fixture
def photo():
    return cv2.imread(str(CAT))


def save(path, picture, *options):
    assert cv2.imwrite(str(path), picture, *options)
    return path


def test_load_image_gives_rgb_floats_and_the_pictures_own_size():
    image, width, height = load_image(CAT, 256, 256)
    assert (image.shape, image.dtype) == ((1, 3, 256, 256), np.float32)
    assert (width, height) == (451, 300)
    assert image.min() >= 0 and image.max() <= 255 and image.max() > 200


def test_height_and_width_are_not_mixed_up(tmp_path):
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:20] = RED  # the upper half
    image, width, height = load_image(save(tmp_path / "tall.png", tall), 8, 16)
    assert (width, height) == (20, 40)
    assert image.shape == (1, 3, 8, 16)
    assert (image[0, 0, :4] == 255).all() and (image[0, 0, 4:] == 0).all()
    assert not image[0, 1:].any()


def test_recover_image_undoes_load_image(photo):
    image, width, height = load_image(CAT, 300, 451)
    assert np.array_equal(recover_image(image, height, width), photo)


def test_recover_image_stretches_back_to_the_pictures_size():
    image, width, height = load_image(CAT, 256, 256)
    picture = recover_image(image, height, width)
    assert (picture.shape, picture.dtype) == ((300, 451, 3), np.uint8)


def test_recover_image_clips_and_rounds():
    output = np.array([-3.0, 0.4, 0.6, 254.6, 300.0], np.float32)
    picture = recover_image(np.broadcast_to(output, (1, 3, 1, 5)), 1, 5)
    assert picture[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_grey_becomes_colour(tmp_path, photo):
    grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
    picture = read_image(save(tmp_path / "grey.png", grey))
    assert np.array_equal(picture, np.dstack([grey] * 3))


def test_transparent_is_laid_on_white(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = [[*RED, 255], [*RED, 0], [0, 0, 0, 128]]
    picture = read_image(save(tmp_path / "alpha.png", pixels))
    assert picture[0, :2].tolist() == [RED, WHITE]
    assert picture[0, 2].tolist() == [127, 127, 127]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_become_8(tmp_path, channels):
    pixels = np.full((2, 2, channels), 65535, np.uint16)
    pixels[0, 0] = 0
    if channels == 4:
        pixels[..., 3] = 65535
    picture = read_image(save(tmp_path / "deep.png", pixels))
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [0, 0, 0] and picture[1, 1].tolist() == WHITE


def test_cmyk_jpeg_looks_like_itself(tmp_path, photo):
    path = tmp_path / "cmyk.jpg"
    with Image.open(CAT) as upright:
        upright.convert("CMYK").save(path, quality=95)
    picture = read_image(path)
    assert picture.shape == photo.shape
    assert cv2.absdiff(picture, photo).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_was_held_sideways(tmp_path, orientation):
    """Pillow turns it by its own rules; ours must lie as that one does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.jpg"
    with Image.open(CAT) as upright:
        upright.resize((120, 80)).save(path, exif=exif, quality=95)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))[..., ::-1]
    picture = read_image(path)
    assert picture.shape == expected.shape
    assert cv2.absdiff(picture, np.ascontiguousarray(expected)).mean() < 4


def test_a_palette_picture(tmp_path, photo):
    path = tmp_path / "palette.png"
    with Image.open(CAT) as upright:
        upright.convert("P").save(path)
    assert cv2.absdiff(read_image(path), photo).mean() < 20


def test_one_pixel(tmp_path):
    image, width, height = load_image(
        save(tmp_path / "dot.png", np.array([[RED]], np.uint8)), 256, 256
    )
    assert (width, height) == (1, 1)
    assert (image[0, 0] == 255).all()
    assert recover_image(image, 1, 1).tolist() == [[RED]]


def test_a_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"there is no file .*nowhere\.jpg; give the path"):
        read_image(tmp_path / "nowhere.jpg")


def test_a_folder_or_a_device(tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(ImageError, match="is a folder or a device; give the path of a pict"):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "said", "error"),
    [
        (b"", "is empty", ImageError),
        (b"not a picture", "is text", ImageError),
        (b"\xff\xd8\xff\xe0 cut off", "is a JPEG that was cut off", ImageError),
        (b"II*\0", "is a TIFF; expected a JPEG, PNG or WebP", ImageError),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC; expected a JPEG", HeicError),
    ],
)
def test_what_is_no_picture(tmp_path, content, said, error):
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    with pytest.raises(error, match=rf"file\.jpg {said}"):
        read_image(path)


def test_a_result_needs_the_ending_of_a_picture(tmp_path, photo):
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    for name in ("result", "result.txt"):
        with pytest.raises(
            ImageError,
            match=r"has no known picture extension; use \.jpg",
        ):
            write_image(tmp_path / name, photo)
    with pytest.raises(ImageError, match="cannot be written: there is no folder"):
        write_image(tmp_path / "no" / "result.jpg", photo)
    with pytest.raises(ImageError, match="cannot be written: it is a folder"):
        write_image(folder, photo)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


def test_side_by_side_has_one_height(photo):
    both = side_by_side(photo, photo, height=150)
    assert both.shape == (150, 226 * 2 + 8, 3)


def test_side_by_side_of_a_very_long_picture_stays_small():
    assert side_by_side(np.zeros((1, 5000, 3), np.uint8)).shape == (1, 1600, 3)
    assert side_by_side(np.zeros((5000, 1, 3), np.uint8)).shape == (400, 1, 3)


def test_contact_sheet_fills_its_last_row_with_white(photo):
    sheet = contact_sheet([("a", photo), ("b", photo), ("c", photo)], columns=2, width=90)
    assert sheet.shape == (2 * (26 + 60 + 6), 2 * (90 + 6), 3)
    assert (sheet[-60:, -90:] == 255).all()
