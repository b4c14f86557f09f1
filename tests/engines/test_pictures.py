"""Which reference pictures are refused, in which words, and what becomes of those that are not."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFile, PngImagePlugin

from engines.errors import MediaError
from engines.media import pictures
from engines.media.framing import cover_frame, crop_to_cover, cut_out, fit_on_canvas
from engines.media.pictures import open_picture, picture_problem

ORIENTATION = 0x0112


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: refusing it must not wait for a decoder."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def noise(width: int = 64, height: int = 48, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (60 * index, 0, 0)) for index in range(count)]


# Name -> (how the file is made, what the sentence must say).
REFUSED = {
    "missing.png": (lambda path: None, "There is no picture"),
    "folder.png": (lambda path: path.mkdir(), "not a file"),
    "empty.png": (lambda path: path.write_bytes(b""), "is empty"),
    "text.png": (lambda path: path.write_text("I am no picture.\n"), "is not a picture, whatever its name says"),
    "header_only.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "is a PNG picture, but damaged"),
    "noise.jpg": (lambda path: path.write_bytes(bytes(range(40, 250)) * 9), "is not a picture, whatever its name says"),
    "noise.dat": (lambda path: path.write_bytes(bytes(range(40, 250)) * 9), "is no known picture: choose a PNG"),
    "clear.png": (lambda path: save(Image.new("RGBA", (32, 32), (200, 9, 9, 0)), path), "transparent everywhere"),
    "clear_grey.png": (lambda path: save(Image.new("LA", (32, 32), (200, 0)), path), "transparent everywhere"),
    "clear.webp": (lambda path: save(Image.new("RGBA", (32, 32), (9, 9, 9, 3)), path), "transparent everywhere"),
    "clear_palette.gif": (
        lambda path: save(Image.new("P", (32, 32), 7), path, transparency=7),
        "transparent everywhere",
    ),
    "wide.png": (lambda path: path.write_bytes(png_header(30_000, 100)), "30,000x100 pixels: make it smaller than"),
    "area.png": (lambda path: path.write_bytes(png_header(9_000, 9_000)), "64 megapixels"),
    "warned_of.png": (lambda path: path.write_bytes(png_header(12_000, 12_000)), "12,000x12,000 pixels"),
    "bomb.png": (lambda path: path.write_bytes(png_header(100_000, 100_000)), "far too large"),
    "strip.png": (lambda path: save(noise(500, 1), path), "only 500x1 pixels"),
    "column.png": (lambda path: save(noise(1, 500), path), "only 1x500 pixels"),
    "dot.png": (lambda path: save(noise(1, 1), path), "only 1x1 pixels"),
    "thin.png": (lambda path: save(noise(337, 16), path), "too thin a strip"),
    "cmyk.jpg": (lambda path: save(noise().convert("CMYK"), path), "(CMYK): save it as RGB"),
    "cmyk.tif": (lambda path: save(noise().convert("CMYK"), path), "(CMYK): save it as RGB"),
    "lab.tif": (lambda path: save(noise().convert("LAB"), path), "LAB colours: save it as RGB"),
    "nan.tif": (lambda path: save(Image.fromarray(np.full((32, 32), np.nan, np.float32)), path), "floating-point"),
    "deep.tif": (lambda path: save(Image.fromarray(np.full((32, 32), 2**30, np.int32)), path), "32-bit"),
    "negative.tif": (lambda path: save(Image.fromarray(np.full((32, 32), -1, np.int32)), path), "32-bit"),
    "animated.gif": (
        lambda path: frames(3)[0].save(path, save_all=True, append_images=frames(3)[1:]),
        "save one frame",
    ),
    "animated.webp": (
        lambda path: frames(3)[0].save(path, save_all=True, append_images=frames(3)[1:]),
        "save one frame",
    ),
    "animated.png": (
        lambda path: frames(3)[0].save(path, save_all=True, append_images=frames(3)[1:]),
        "save one frame",
    ),
    "pages.tif": (
        lambda path: frames(2)[0].save(path, save_all=True, append_images=frames(2)[1:]),
        "save one frame",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    path = tmp_path / name
    make(path)
    problem = picture_problem(path)
    assert problem is not None
    assert words in problem
    assert f'"{name}"' in problem
    assert str(tmp_path) not in problem
    assert problem.endswith(".") and "\n" not in problem
    with pytest.raises(MediaError, match=name.replace(".", r"\.")):
        open_picture(path, as_published=False)


def boxes(brand: bytes, *compatible: bytes) -> bytes:
    """The beginning of a file in boxes, as HEIC, AVIF and MP4 have it."""
    body = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(body) + 8) + b"ftyp" + body + bytes(200)


# The first bytes of files that are no pictures to us -> what the sentence calls them, and what to do.
KNOWN = {
    "an HEIC picture, which is not read here: save it as PNG": boxes(b"heic", b"mif1", b"heic"),
    "an HEIC picture, which": boxes(b"mif1", b"heix"),
    "an AVIF picture, but damaged": boxes(b"mif1", b"avif"),
    "a JPEG XL picture, which": b"\xff\x0a" + bytes(range(1, 99)),
    "a JPEG XL picture": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90),
    "a JPEG 2000 picture": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(90),
    "a Photoshop document": b"8BPS\0\x01" + bytes(90),
    "a raw picture of a camera": b"II*\0\x10\0\0\0CR\x02\0" + bytes(90),
    "an OpenEXR picture": b"v/1\x01" + bytes(90),
    "an SVG drawing, not a picture: save what it shows as PNG": b'<?xml version="1.0"?>\n<svg xmlns="x">',
    "an SVG drawing": b"<svg/>",
    "a PDF document, not a picture: save what it shows": b"%PDF-1.7\n",
    "a PostScript document": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "an MP4 video: save one frame of it": boxes(b"isom", b"iso2", b"mp41"),
    "a QuickTime video: save one frame": boxes(b"qt  "),
    "a Matroska or WebM video": b"\x1aE\xdf\xa3" + bytes(90),
    "an AVI video": b"RIFF\x00\x01\0\0AVI LIST" + bytes(90),
    "a WAV recording, not a picture": b"RIFF\x00\x01\0\0WAVEfmt " + bytes(90),
    "a web page, not a picture": b"\n<!DOCTYPE html><html><body><svg/></body></html>",
    "a web page": b"<!-- saved -->\n<html lang='en'>",
    "a zip archive": b"PK\x03\x04" + bytes(90),
    "only a pointer to the real file (Git LFS)": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize("words", KNOWN)
@pytest.mark.parametrize("name", ["picture.jpg", "picture.png"])
def test_a_file_is_called_what_its_bytes_say(words: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(KNOWN[words])
    assert picture_problem(path).startswith(f'"{name}" is {words}')


def test_a_picture_under_another_name_is_a_picture(tmp_path: Path) -> None:
    for name in ("video.mp4", "picture.heic", "none", "page.pdf"):
        assert picture_problem(save(noise(), tmp_path / name, format="PNG")) is None


def test_transparency_counts_only_where_it_is_kept(tmp_path: Path) -> None:
    path = save(Image.new("RGBA", (32, 32), (200, 9, 9, 0)), tmp_path / "clear.png")
    assert picture_problem(path, as_published=True) is None
    assert open_picture(path, as_published=True).getpixel((5, 5)) == (200, 9, 9)


def counted_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats of all pictures whose pixels are decoded from now on."""
    decoded: list[str] = []
    load = ImageFile.ImageFile.load

    def counting(image: ImageFile.ImageFile) -> object:
        if image.tile:
            decoded.append(str(image.format))
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counting)
    return decoded


def test_a_picture_is_decoded_once_per_use_and_its_header_needs_no_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, decoded = save(noise(), tmp_path / "picture.png"), counted_loads(monkeypatch)
    assert picture_problem(path, pixels=False) is None and decoded == []
    assert picture_problem(path) is None and picture_problem(path) is None
    assert decoded == ["PNG"]
    open_picture(path, as_published=False)
    assert len(decoded) == 2
    other = save(noise(), tmp_path / "other.png")
    open_picture(other, as_published=False)
    assert picture_problem(other) is None and len(decoded) == 3
    other.write_bytes(other.read_bytes()[:2_000])
    assert "damaged" in picture_problem(other), "the file changed"
    assert picture_problem(other, pixels=False) is None


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "avif"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_pictures_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    whole = save(noise(200, 160), tmp_path / f"whole.{suffix}")
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    assert picture_problem(whole) is None
    assert picture_problem(cut) is not None


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(50_000_001)
    assert "at most 50 MB" in picture_problem(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    assert "is not a file" in picture_problem(path)


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb.png", '"a?b.png"'), ("a\0b.png", '"a?b.png"'), ("\udcff.png", '"?.png"')]
)
def test_names_are_made_fit_for_a_sentence(name: str, shown: str) -> None:
    assert shown in picture_problem(Path(name))


def test_endless_names_are_shortened() -> None:
    assert len(picture_problem(Path("x" * 5_000 + ".png"))) < 200


def test_random_damage_never_escapes_as_an_exception(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    path = tmp_path / "damaged"
    for suffix in ("png", "jpg", "webp", "gif", "tif", "avif"):
        whole = bytearray(save(noise(40, 40), tmp_path / f"whole.{suffix}").read_bytes())
        for _ in range(40):
            damaged = whole.copy()
            for place in random.integers(0, len(damaged), 6):
                damaged[place] = random.integers(0, 256)
            path.write_bytes(damaged)
            assert isinstance(picture_problem(path), str | None)


def test_no_warning_surfaces(tmp_path: Path) -> None:
    path = tmp_path / "warned_of.png"
    path.write_bytes(png_header(12_000, 9_000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture_problem(path)
    assert caught == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_common_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.new("I;16", (64, 48), 30_000) if mode == "I;16" else noise().convert(mode)
    path = save(image, tmp_path / "picture.png")
    assert picture_problem(path) is None
    for as_published in (True, False):
        assert open_picture(path, as_published=as_published).mode == "RGB"


def test_one_frame_in_an_animated_format_is_a_picture(tmp_path: Path) -> None:
    assert picture_problem(save(noise(), tmp_path / "still.gif")) is None


def test_a_phone_picture_with_a_second_view_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    frames(2)[1].save(path, format="MPO", save_all=True, append_images=frames(1))
    assert picture_problem(path) is None
    assert open_picture(path, as_published=False).getpixel((5, 5))[0] > 50


def test_published_mode_is_plain_convert(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = noise(channels=4)
    path = save(image, tmp_path / "picture.png", exif=exif)
    assert np.array_equal(open_picture(path, as_published=True), image.convert("RGB"))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65_535, 256 * 20).reshape(20, 256).astype(np.uint16)
    path = save(Image.fromarray(values), tmp_path / "deep.png")
    seen = np.asarray(open_picture(path, as_published=False))[..., 0]
    assert np.array_equal(seen, np.round(values / 257).astype(np.uint8))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 16, 32))
    image.paste((0, 0, 0, 128), (0, 0, 4, 4))
    seen = open_picture(save(image, tmp_path / "clear.png"), as_published=False)
    assert seen.getpixel((20, 20)) == (255, 255, 255)
    assert seen.getpixel((8, 20)) == (200, 0, 0)
    assert seen.getpixel((1, 1)) == (127, 127, 127)
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((20, 20))
    seen = open_picture(save(palette, tmp_path / "clear.gif"), as_published=False)
    assert seen.getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_camera_rotation_is_applied(suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste("black", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held a quarter turn to the left
    seen = open_picture(save(image, tmp_path / f"turned.{suffix}", exif=exif), as_published=False)
    assert seen.size == (32, 64)
    assert max(seen.getpixel((16, 10))) < 20 and min(seen.getpixel((16, 54))) > 235


def test_damaged_exif_and_profile_are_ignored(tmp_path: Path) -> None:
    image = noise()
    path = save(image, tmp_path / "odd.png", exif=b"Exif\0\0garbage", icc_profile=b"no profile at all")
    assert np.array_equal(open_picture(path, as_published=False), image)


def test_colour_profiles_become_srgb(tmp_path: Path) -> None:
    # Swapping primaries is the plainest profile whose effect can be seen: a profile of XYZ numbers read as RGB.
    image = Image.new("RGB", (32, 32), (180, 90, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    seen = open_picture(save(image, tmp_path / "same.png", icc_profile=srgb), as_published=False)
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(image)).max() <= 2
    darker = _with_gamma(srgb, 1.0)
    seen = open_picture(save(image, tmp_path / "linear.png", icc_profile=darker), as_published=False)
    assert seen.getpixel((0, 0))[1] > 140  # 90/255 of linear light is bright in sRGB


def _with_gamma(profile: bytes, gamma: float) -> bytes:
    """The profile with its three tone curves replaced by a power law."""
    data = bytearray(profile)
    (count,) = struct.unpack(">I", data[128:132])
    for index in range(count):
        entry = 132 + 12 * index
        name, offset, size = struct.unpack(">4sII", data[entry : entry + 12])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            curve = b"curv" + bytes(4) + struct.pack(">IH", 1, int(gamma * 256))
            data[offset : offset + size] = curve.ljust(size, b"\0")[:size]
    return bytes(data)


def test_text_in_a_picture_cannot_blow_up(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 200_000_000, zip=True)
    buffer = io.BytesIO()
    noise().save(buffer, "png", pnginfo=info)
    path = tmp_path / "text_bomb.png"
    path.write_bytes(buffer.getvalue())
    assert picture_problem(path) is not None


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((131, 37), (0, 13, 80, 35)),
        ((41, 90), (29, 0, 50, 48)),
        ((80, 48), (0, 0, 80, 48)),
        ((16, 16), (16, 0, 64, 48)),
    ],
)
def test_canvas_truncates_and_centres(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    canvas = fit_on_canvas(Image.new("RGB", size, "black"), width=80, height=48)
    filled = (np.asarray(canvas) == 0).all(axis=-1)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == box
    assert canvas.size == (80, 48)


@pytest.mark.parametrize(
    ("size", "position", "crop"),
    [
        ((1000, 300), 0.5, (1600, 480, 384, 0)),
        ((1000, 300), 0.0, (1600, 480, 0, 0)),
        ((1000, 300), 1.0, (1600, 480, 768, 0)),
        ((300, 1000), 0.5, (832, 2774, 0, 1147)),
        ((416, 240), 0.0, (832, 480, 0, 0)),
        ((16, 16), 0.5, (832, 832, 0, 176)),
    ],
)
def test_a_crop_covers_the_frame_at_its_position(size: tuple[int, int], position: float, crop: tuple[int, ...]) -> None:
    assert crop_to_cover(size, width=832, height=480, position=position) == crop


@pytest.mark.parametrize("size", [(320, 48), (48, 320), (97, 61), (16, 16), (2000, 100)])
def test_a_covered_frame_is_never_stretched(size: tuple[int, int]) -> None:
    crop = crop_to_cover(size, width=96, height=64)
    assert abs(crop.width / size[0] - crop.height / size[1]) < 1 / min(size)
    assert min(crop.width - 96, crop.height - 64) == 0
    image = Image.new("RGB", size, "red")
    frame = cover_frame(image, width=96, height=64)
    assert frame.size == (96, 64)
    assert frame.getcolors() == [(96 * 64, (255, 0, 0))], "nothing is padded"


def test_canvas_refuses_what_would_vanish() -> None:
    with pytest.raises(MediaError, match="too thin"):
        fit_on_canvas(Image.new("RGB", (1000, 2)), width=80, height=48)


def disc(background: tuple[int, int, int] = (120, 160, 200), noise_level: float = 8) -> Image.Image:
    image = Image.new("RGB", (300, 200), background)
    ImageDraw.Draw(image).ellipse((100, 50, 200, 150), fill=(200, 60, 40))
    noisy = np.asarray(image) + np.random.default_rng(0).normal(0, noise_level, (200, 300, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def test_cut_out_keeps_the_subject_and_nothing_else() -> None:
    picture = disc()
    image, found = cut_out(picture)
    assert found
    kept = (np.asarray(image) < 250).any(axis=-1)
    inside = (np.asarray(disc(noise_level=0)) == (200, 60, 40)).all(axis=-1)
    assert (kept & inside).sum() / (kept | inside).sum() > 0.95
    assert np.array_equal(image, cut_out(picture).image)


def test_cut_out_keeps_a_subject_that_one_side_cuts() -> None:
    image = Image.new("RGB", (200, 200), (120, 160, 120))
    ImageDraw.Draw(image).rectangle((60, 90, 150, 200), fill=(40, 40, 160))
    image.putpixel((0, 0), (121, 160, 120))
    cut = cut_out(image)
    assert cut.found
    assert cut.image.getpixel((100, 199)) == (40, 40, 160)
    assert cut.image.getpixel((20, 150)) == (255, 255, 255)


@pytest.mark.parametrize("image", [Image.new("RGB", (96, 64), (30, 30, 30)), noise(300, 200), Image.new("RGB", (1, 1))])
def test_cut_out_says_when_it_finds_nothing(image: Image.Image) -> None:
    cut = cut_out(image)
    assert not cut.found
    assert np.array_equal(cut.image, image)


def test_formats_that_nobody_offers_are_not_read(tmp_path: Path) -> None:
    save(noise(64, 64), tmp_path / "a.ppm").rename(tmp_path / "a.png")
    assert "a.png" in str(picture_problem(tmp_path / "a.png"))


def test_a_run_length_bmp_is_refused_by_its_header(tmp_path: Path) -> None:
    """Its decoder is written in Python: a large one takes minutes."""
    path = save(Image.new("P", (64, 64)), tmp_path / "a.bmp")
    data = bytearray(path.read_bytes())
    data[30:34] = (1).to_bytes(4, "little")  # BI_RLE8
    path.write_bytes(data)
    assert "takes very long to read: save it as PNG" in str(picture_problem(path, pixels=False))


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_many_pixels_in_few_bytes_are_refused_by_the_header(suffix: str, tmp_path: Path) -> None:
    path = save(Image.new("RGB", (6_000, 3_000)), tmp_path / f"a.{suffix}")
    assert "6,000x3,000 pixels in 0." in str(picture_problem(path, pixels=False))
    assert "smaller than 16 megapixels" in str(picture_problem(path, pixels=False))


def test_what_holds_a_picture_several_times_may_be_less_large(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "_MOST_OF_HUNGRY", 10_000)
    for suffix, problem in (("webp", "at most 0 megapixels, or as JPEG"), ("png", "None")):
        assert problem in str(picture_problem(save(noise(200, 160), tmp_path / f"a.{suffix}"), pixels=False))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_large_picture_is_made_smaller_and_looks_the_same(suffix: str, tmp_path: Path, monkeypatch) -> None:
    image = Image.new("RGB", (400, 300), "white")
    image.paste("red", (0, 0, 200, 150))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned as the camera was held
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif, quality=95)
    whole = open_picture(path, as_published=False)
    assert whole.size == (300, 400)
    monkeypatch.setattr(pictures, "_LARGE", 60_000)
    small = open_picture(path, as_published=False)
    assert small.size == (150, 200)
    assert small.getpixel((140, 10))[1] < 60 < 200 < small.getpixel((10, 10))[1]  # the red corner went to the right
    assert open_picture(path, as_published=True).size == (400, 300)  # what is published changes nothing


def test_a_picture_that_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    path = save(noise(64, 64), tmp_path / "a.png")
    opened: list[Image.Image] = []
    other = threading.Thread(target=lambda: opened.append(open_picture(path, as_published=False)))
    with pictures._turn, pictures._quiet:  # a large one is being decoded
        other.start()
        other.join(timeout=60)
        assert opened
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", UserWarning, stacklevel=1)
