"""Damage by a seed: to bytes, to text, to the values within TOML, JSON, JSON lines and the texts of images."""

from __future__ import annotations

import io
import json
import random
import tomllib
from pathlib import PurePosixPath
from typing import Any

import tomli_w
from PIL import Image, PngImagePlugin

OUTSIDE = "../../outside/precious.txt"
"""A file beside the folder that a damaged input is read in: nothing may touch it."""

TOKENS = [
    b'"',
    b'""',
    b"'",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"|",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00",
    b"\xe9",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"156680208700286",
    b"-1",
    b"7.0",
    b"1_0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[" * 2000,
    b'{"a":' * 300,
    b":",
    b"null",
    b"true",
    b'{"prompt": "a"}',
    b"sep=;\n",
    b"--prompt ",
    b"--seed -1 ",
    b"--sampler_name Heun ",
    b"--",
    b"---\n",
    b"positive: ",
    b"# ",
    b"prompt",
    b"prompts",
    b"seed",
    b"id",
    b" ",
    b"\xe2\x80\xa8",
    b"\\",
    b"=",
    b"__x__",
    b"{a|b}",
    b"\x1a",
    b"PAR1",
]
"""What breaks readers."""

EXPRESSIONS = [
    *(
        "+",
        "++",
        ":",
        "::",
        "@",
        "@z",
        "@z1,2",
        "@15..35",
        "@1..1",
        "min(",
        ")",
        ",",
        "..",
        "0.5*",
        "*2",
        "/",
        "|",
        "=",
    ),
    *(
        "-",
        ".",
        "1e999",
        "nan",
        "inf",
        "-1",
        "0",
        "1e-999",
        "9" * 400,
        "min(" * 1500,
        "(" * 5000,
        "shapes",
        "hps",
        "fk",
    ),
    *("./rewards.py", "./rewards.py:scale", "./none.py:x", ".py", "~", "~nobody/x.py", "é", "\x1b[31m", "\x07", "\n"),
    *(
        "\u2028",
        "\u202e",
        "\udc80",
        " ",
        "a" * 5000,
        OUTSIDE,
        "fk.lambda=4",
        "fk.",
        ".=",
        "10**9",
        "1_0",
        "none",
        "[1]",
    ),
]
"""What is put into arguments; they hold no NUL."""

DEEP: Any = "deep"
for _ in range(300):
    DEEP = [DEEP]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7.0, 0.5, 1e308, 2**31, 2**32, 2**63, 10**30, 10**400),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "nan", "1", "null", "a\nb", "\x00", "\ud800", "\u2028", "\u202e", "\x1b[31m\x1b]0;t\x07", "é" * 3),
    *("long " * 3000, OUTSIDE, f"../{OUTSIDE}", "/nowhere/x", "..", ".", "~", "http://127.0.0.1:9/x", "no://x"),
    *("shapes", "fk", "base"),
    *([], {}, [[]], {"": {}}, [None], ["x"], [1, "x"], {"x": None}, {"../x": 1}, DEEP),
]
"""What takes a value's place."""


def damaged_bytes(data: bytes, rng: random.Random, tokens: list[bytes] = TOKENS) -> bytes:
    """Return bytes with one to eight changes: replaced, removed, doubled and cut, and with tokens put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 2, 8, 64))
        change = rng.randrange(6)
        if change == 0:
            changed[place:place] = rng.choice(tokens)
        elif change == 1:
            changed[place : place + length] = rng.choice(tokens)
        elif change == 2:
            changed[place : place + length] = bytes(rng.randrange(256) for _ in range(length))
        elif change == 3:
            del changed[place : place + length]
        elif change == 4:
            changed[place:place] = changed[place : place + length] * rng.choice((1, 2, 50))
        elif rng.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def damaged_text(text: str, rng: random.Random) -> str:
    """Return an argument with one to three changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, length = rng.randrange(len(text) + 1), rng.choice((0, 0, 1, 2, 8))
        piece = rng.choice([*EXPRESSIONS, *EXPRESSIONS, text[place : place + 8], text, ""])
        text = text[:place] + piece + text[place + length :]
    return text


def damaged_value(data: Any, rng: random.Random) -> Any:
    """Return nested lists and objects with one to four changes; what was given may change too."""
    root = [data]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(root))
        holder, key = rng.choice(places)
        change, value = rng.randrange(8), holder[key]
        if change < 4 or holder is root:
            holder[key] = rng.choice(VALUES)
        elif change == 4:
            del holder[key]
        elif change == 5 and isinstance(holder, dict):
            holder[rng.choice(["", "x", "../x", "\x1b[31m", "é", "schema", "id", key + "s", "\ud800"])] = value
        elif change == 5:
            holder.insert(rng.randrange(len(holder) + 1), value)
        elif change == 6:
            holder[key] = rng.choice([[value], {"x": value}, str(value), [value] * 50])
        else:  # what belongs elsewhere
            other, place = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[place]))
    return root[0]


def _places(value: Any, depth: int = 0) -> Any:
    if depth < 12:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            yield value, key
            yield from _places(value[key], depth + 1)


def damaged_file(name: str, data: bytes, rng: random.Random) -> bytes:
    """Return a file of a known suffix with values within it changed, or its bytes, or both."""
    if rng.random() < 0.75:
        try:
            data = _BY_SUFFIX[PurePosixPath(name).suffix](data, rng)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ):  # no such suffix, or a value that the form lacks
            return damaged_bytes(data, rng)
        if rng.random() < 0.8:
            return data
    return damaged_bytes(data, rng)


def _json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(damaged_value(json.loads(data), rng)).encode()


def _json_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2))):
        place, change = rng.randrange(len(lines)), rng.randrange(8)
        if change < 5:
            lines[place] = _json(lines[place], rng) + b"\n"
        elif change == 5:
            lines.insert(rng.randrange(len(lines)), lines[place])
        elif change == 6:
            rng.shuffle(lines)
        elif len(lines) > 1:
            del lines[place]
    return b"".join(lines)


def _toml(data: bytes, rng: random.Random) -> bytes:
    return tomli_w.dumps(damaged_value(tomllib.loads(data.decode()), rng)).encode("utf-8", "surrogatepass")


def _png(data: bytes, rng: random.Random) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        texts = dict(getattr(image, "text", {}))
    if "steer" in texts and rng.random() < 0.8:
        texts["steer"] = _json(texts["steer"].encode(), rng).decode()
    elif texts:
        key = rng.choice(list(texts))
        texts[key] = damaged_bytes(texts[key].encode(), rng).decode("utf-8", "replace")
    return picture(image, texts, rng.choice(["PNG"] * 6 + ["JPEG", "WEBP", "GIF"]))


def picture(image: Image.Image, texts: dict[str, str], form: str = "PNG") -> bytes:
    """Return an image as a file, with texts as far as its format has them."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text, zip=len(text) > 5000)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = texts.get("parameters", "")[:1000].encode("ascii", "replace").decode()
    image.save(buffer, form, **({"pnginfo": info} if form == "PNG" else {} if form == "GIF" else {"exif": exif}))
    return buffer.getvalue()


_BY_SUFFIX = {".json": _json, ".jsonl": _json_lines, ".toml": _toml, ".png": _png}
