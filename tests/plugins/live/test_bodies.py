"""Forms as clients send them, and as they never should."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from steer import SteerError
from steer.plugin import ImageError
from steer_live.asked import RefusedError
from steer_live.bodies import Upload, parse_form, typed
from steer_live.uploads import stored

LINE = b"Content-Disposition: form-data; name="


def form(*parts: bytes, boundary: str = "b") -> bytes:
    return b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def png(mode: str = "RGB", color: object = "red", size: tuple[int, int] = (4, 3), **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG", **more)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_fields_become_tables_and_files_keep_every_byte() -> None:
    data = bytes(range(256)) + b"\r\n--not the boundary\r\n\r\n"
    found = parse_form(
        form(
            LINE + b'"prompt"\r\n\r\na f\xc3\xbcchsin',
            LINE + b'"steer[method][]"\r\n\r\nfk',
            LINE + b'"steer[method][]"\r\n\r\nprune',
            LINE + b'"steer[options][fk][lambda]"\r\n\r\n4',
            LINE + b'"steer[steps]"\r\n\r\n10',
            LINE + b'"image[]"; filename="../../etc/passwd"\r\nContent-Type: image/png\r\n\r\n' + data,
            LINE + b'"image[]"; filename="b.png"\r\n\r\n',
        ),
        "b",
    )
    assert found.fields["prompt"] == "a füchsin"
    assert found.fields["steer"]["method"] == ["fk", "prune"]
    assert found.fields["steer"]["options"] == {"fk": {"lambda": "4"}}
    assert typed(found.fields["steer"])["steps"] == 10
    assert [upload.data for upload in found.files["image"]] == [data, b""]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "cut off"),
        (b"--b\r\n" + LINE + b'"a"\r\n\r\nx', "cut off"),
        (form(b"X: y\r\n\r\nz"), "no name"),
        (form(LINE + b'"a"'), "no name"),
        (form(LINE + b'"a"\r\n\r\n\xff'), "not UTF-8"),
        (form(LINE + b'"a"\r\n\r\n1', LINE + b'"a"\r\n\r\n2'), "there twice"),
        (form(LINE + b'"a"\r\n\r\n1', LINE + b'"a[b]"\r\n\r\n2'), "contradicts"),
        (form(LINE + b'"a[b]"\r\n\r\n1', LINE + b'"a[]"\r\n\r\n2'), "contradicts"),
        (form(*[LINE + b'"a[]"\r\n\r\n1'] * 101), "more than 100 parts"),
    ],
)
def test_a_form_that_is_none_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        parse_form(body, "b")


def test_a_number_that_is_none_stays_for_the_settings_to_refuse() -> None:
    assert typed({"steps": "1e3", "guidance": "4.5", "scheduler": "5"}) == {
        "steps": "1e3",
        "guidance": 4.5,
        "scheduler": "5",
    }


def test_a_picture_is_stored_anew_without_what_it_carries(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    secret = PngInfo()
    secret.add_text("parameters", "secret")
    path = Path(stored(Upload("../../x.png", png(pnginfo=secret)), "image 1", tmp_path))
    assert path.parent == tmp_path / "uploads"
    assert b"secret" not in path.read_bytes()
    with Image.open(path) as image:
        assert (image.size, image.getpixel((0, 0))) == ((4, 3), (255, 0, 0))
    assert stored(Upload("", png()), "image 1", tmp_path) == str(path)  # the same pixels


def test_what_is_transparent_in_a_mask_is_painted_anew(tmp_path: Path) -> None:
    def value(data: bytes) -> object:
        with Image.open(stored(Upload("m", data), "mask", tmp_path, mask=True)) as image:
            assert image.mode == "L"
            return image.getpixel((0, 0))

    assert value(png("RGBA", (9, 9, 9, 0))) == 255
    assert value(png("RGBA", (255, 255, 255, 255))) == 0
    assert value(png("L", 255)) == 255


@pytest.mark.parametrize("data", [b"", b"GIF89a", png()[:40], b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_file_that_is_no_picture_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match="image 1"):
        stored(Upload("a.png", data), "image 1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="more than 50,000,000"):
        stored(Upload("a.png", png("1", 0, (8000, 8000))), "image 1", tmp_path)
