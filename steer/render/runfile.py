"""``run.toml``: the settings of a rendered folder, from which it resumes, and which protect it from other renders."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w

from steer.errors import SteerError
from steer.prompts.files import parse_prompts
from steer.prompts.prompt import Prompt
from steer.render.journal import DETAILS, JOURNAL
from steer.render.page import check_page
from steer.render.spec import FORMAT
from steer.results.claims import check_others
from steer.results.names import METADATA
from steer.results.recipe import versions
from steer.results.storage import Storage
from steer.settings.run_settings import renewed
from steer.settings.strict_json import json_text
from steer.settings.text_files import decoded

RUN, PROMPTS = "run.toml", "prompts.jsonl"

WHERE = ("file", "prompts", "out", "device", "engine", "address", "workers")
HOW_FAST = ("chunk", "offload", "compile", "channels_last", "previews", "versions")
"""Keys that may change when a render resumes: they decide at most an image's last bits."""

GROWS = "replicates"
"""This may increase when a render resumes: existing samples stay as they are."""

KEPT = ("chunk", "dtype", "previews")
"""Keys that a resumed render keeps unless others are given."""


READ: dict[str, type] = {"versions": dict, "replicates": int, "chunk": int, "previews": int, "dtype": str}
"""Keys that a render reads from the ``run.toml`` in its folder, with the types of their values."""


OTHERS = (METADATA, PROMPTS, JOURNAL, DETAILS)
"""Files of a render or of another steer command: without a run.toml they do not belong to a render."""


def check_ours(storage: Storage) -> None:
    """Raise if a folder without a render holds files that a render would overwrite.

    Raises:
        SteerError: naming the file.
    """
    check_others(storage, "render")
    for name in OTHERS:
        if storage.read(name) is not None:
            raise SteerError(
                f"output folder {storage.name} holds a {name} that is not of a render; choose another --out"
            )
    check_page(storage)


def read_run(storage: Storage) -> dict[str, Any]:
    """Return the content of ``run.toml``; empty if there is none.

    Raises:
        SteerError: if it cannot be read.
    """
    data = storage.read(RUN)
    if data is None:
        return {}
    text = decoded(data, storage.url(RUN))
    try:
        values = renewed(tomllib.loads(text))
        for key, kind in READ.items():
            if not isinstance(values.get(key, kind()), kind):
                raise ValueError(f"{key} is no {kind.__name__}")
        if not isinstance(values.get("versions", {}).get("format", 1), int):
            raise ValueError("versions.format is no int")
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{storage.url(RUN)} is damaged ({error}); choose another --out") from None
    return values


def check_same(stored: Mapping[str, Any], values: Mapping[str, Any], place: str) -> None:
    """Raise if a folder was begun with other settings.

    Raises:
        SteerError: naming them.
    """
    old, new = _plain(stored), _plain(values)
    for key in sorted(set(old) | set(new)):
        if key == GROWS and new.get(key, 1) >= old.get(key, 1):
            continue
        if key not in (*WHERE, *HOW_FAST) and old.get(key) != new.get(key):
            was, now = (json_text(table.get(key), readable=True)[:80] for table in (old, new))
            raise SteerError(
                f"output folder {place} was begun with {key}={was}, got {key}={now}; give the same, or choose "
                "another --out"
            )


def format_of(stored: Mapping[str, Any]) -> int:
    """Return the format of a ``run.toml`` with this content; a new one has the newest."""
    return int(stored["versions"].get("format", 1)) if "versions" in stored else FORMAT


def write_run(storage: Storage, values: Mapping[str, Any], run_format: int = FORMAT) -> None:
    """Write ``run.toml``: the values, and the versions that decide an image's bits."""
    head = f"# Resume with: steer render --config {storage.url(RUN)}\n"
    made_by = {"format": run_format, **versions()}
    text = tomli_w.dumps({**_plain(values), "file": [storage.url(PROMPTS)], "versions": made_by})
    storage.write(RUN, (head + text).encode())


def read_stored_prompts(storage: Storage) -> list[Prompt]:
    """Return the prompts of earlier calls."""
    data = storage.read(PROMPTS)
    return parse_prompts(data, name=storage.url(PROMPTS), kind="jsonl") if data else []


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as TOML gives them back: no nulls, lists for tuples, tables last."""
    data = json.loads(json_text({key: value for key, value in values.items() if value not in (None, [], (), {})}))
    return dict(sorted(data.items(), key=lambda pair: isinstance(pair[1], dict)))
