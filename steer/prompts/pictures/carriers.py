"""The texts in a picture file: PNG text, EXIF, XMP and JPEG comments, in any encoding.

Files come from anywhere, so damaged and too long texts are left out.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from PIL import Image
from PIL.PngImagePlugin import iTXt

MAX_TEXT = 8_000_000
"""Characters of a text that is read: a workflow with embedded pictures is shorter, and JSON takes 20 times as much."""

_EXIF, _USER_COMMENT = 0x8769, 0x9286
_EXIF_TEXTS = {
    0x010D: "DocumentName", 0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0131: "Software",
    0x9C9C: "XPComment", _USER_COMMENT: "UserComment",
}  # fmt: skip
_XMP_TEXTS = ("UserComment", "description", "parameters")


def texts_of(image: Image.Image) -> dict[str, str]:
    """Return the texts of an opened picture by name; those of EXIF and XMP begin with ``exif:`` and ``xmp:``.

    Nothing is decoded: texts behind the pixels of a PNG are among them once it is loaded.
    """
    found: dict[str, str] = {}
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str) and key != "XML:com.adobe.xmp":
            found[key] = str(value) if isinstance(value, iTXt) else _mended(value)
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and (text := _utf8(comment)) is not None:
        found["comment"] = text
    # Pillow's parsers may raise anything for hostile blocks
    with suppress(Exception):
        # for a PNG without EXIF before its pixels, Pillow would decode the pixels to look behind them
        if image.format != "PNG" or "exif" in image.info:
            found |= _exif_texts(image.getexif())
    with suppress(Exception):
        found |= _xmp_texts(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b"")
    return {key: text for key, text in found.items() if len(text) <= MAX_TEXT}


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in (exif, exif.get_ifd(_EXIF)):
        for tag, name in _EXIF_TEXTS.items():
            value = block.get(tag)
            if isinstance(value, str):
                text: str | None = _mended(value)
            elif isinstance(value, bytes):
                text = _utf16(value) if name == "XPComment" else _comment(value)
            else:
                continue
            if text:
                found[f"exif:{name}"] = text.rstrip("\0")
    return found


def _comment(value: bytes) -> str | None:
    """Decode a ``UserComment``: eight bytes name its encoding, which some writers name wrongly."""
    code, body = value[:8].upper(), value[8:]
    if code == b"UNICODE\0":
        ascii_only = re.fullmatch(rb"[\t\n\r -~]+\0*", body) is not None  # UTF-8 under the name of UTF-16
        return _utf8(body) if ascii_only else _utf16(body)
    if code.startswith(b"JIS\0"):
        with suppress(UnicodeDecodeError):
            return body.decode("iso2022_jp")
        return _utf8(body)
    return _utf8(body if code in (b"ASCII\0\0\0", b"\0" * 8) else value)


def _utf16(data: bytes) -> str | None:
    """Decode UTF-16 of either byte order: the bytes of a text's one script differ less in their upper half."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        encoding = "utf-16-be" if len(set(data[0::2])) <= len(set(data[1::2])) else "utf-16-le"
    with suppress(UnicodeDecodeError):
        return data[: len(data) // 2 * 2].decode(encoding).rstrip("\0")
    return None


def _utf8(data: bytes) -> str | None:
    with suppress(UnicodeDecodeError):
        return data.rstrip(b"\0").decode()
    return None


def _mended(text: str) -> str:
    """Return UTF-8 that was read as Latin-1, which is what PNG and EXIF prescribe, as it was meant."""
    with suppress(UnicodeError):
        return text.encode("latin-1").decode()
    return text


def _xmp_texts(packet: bytes | str) -> dict[str, str]:
    data = packet.encode() if isinstance(packet, str) else packet
    if len(data) > MAX_TEXT or b"<!" in data.replace(b"<![CDATA[", b""):  # entities can swell to gigabytes
        return {}
    found: dict[str, str] = {}
    for name, text in _xml_texts(ElementTree.fromstring(data.strip(b"\0 \r\n\t"))):
        local = name.rpartition("}")[2]
        if local in _XMP_TEXTS and text.strip():
            found.setdefault(f"xmp:{local}", text.strip())
    return found


def _xml_texts(root: Any) -> Iterator[tuple[str, str]]:
    for element in root.iter():
        yield from element.attrib.items()
        if element.tag.rpartition("}")[2] in _XMP_TEXTS:
            yield element.tag, "".join(element.itertext())
