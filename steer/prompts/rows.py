"""Rows of prompt files: from an object, a table's row or a line of flags to a prompt, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import Prompt, check_seed
from steer.prompts.reading_options import TEXT_KEYS, Reading, kind_of
from steer.prompts.samplers import SCHEDULES, scheduler_of
from steer.prompts.values import fraction, is_missing, is_unset, own_seed, plain, unicode, whole
from steer.settings.options import parse_assignments
from steer.settings.run_settings import SETTINGS, SIZE, check_setting, parse_size

SETTING_OF = {key: name for name, setting in SETTINGS.items() for key in setting.rows}
"""Keys of a row that set a run's setting for this prompt alone."""

SAMPLER = "sampler_name"
"""A1111's key for the scheduler."""

OWN = frozenset({"id", "category", "seed", SIZE.key, "options", SAMPLER, *SETTING_OF})
"""Known keys, besides the one that holds the text; all others are metadata."""

KINDS = {"seed": (int,), **{key: SETTINGS[name].kind for key, name in SETTING_OF.items()}}
"""Types of the values of a row's keys."""


def from_row(row: Any, where: str, *, typed: bool = True, reading: Reading | None = None) -> Prompt:
    """Turn a row into a prompt.

    Args:
        row: a text, or an object with the prompt under one of :data:`TEXT_KEYS` and any keys of :data:`OWN`, in any
            case; the rest becomes metadata. A GenEval row's ``tag`` is its category.
        where: for messages, as in ``"prompts.jsonl, line 3"``.
        typed: whether numbers come as numbers; in tables and flags they are text.
        reading: how the file is read.

    Raises:
        SteerError: naming the row, what was got and what was expected.
    """
    reading = reading or Reading()
    if isinstance(row, str):
        row = {TEXT_KEYS[0]: row}
    if not isinstance(row, dict):
        raise SteerError(f"{where}: got {kind_of(row)}, expected text or an object with a 'prompt'")
    row = _with_known_keys({str(key): value for key, value in row.items()}, where, reading)
    text = _taken_text(row, where, reading)
    given = {key: row.pop(key) for key in OWN & row.keys()}
    given = {key: unicode(value, where) if isinstance(value, str) else value for key, value in given.items()}
    given = {key: value for key, value in given.items() if not _says_nothing(key, value, typed=typed)}
    metadata = plain({k: v for k, v in row.items() if typed or not _is_absent(v)}, where, reading)
    settings = _settings(given, where, typed=typed)
    if "negative" in settings:  # prompts of one pack may differ in it
        metadata["negative"] = settings.pop("negative")
    identity, category = given.get("id"), given.get("category", metadata.get("tag"))
    return Prompt(
        text.strip(),
        id=None if identity is None else str(identity),
        category=None if category is None else str(category),
        seed=_seed(given.get("seed"), where, typed=typed, wrap=reading.wrap_seeds),
        metadata=metadata,
        settings=settings,
        options=_options(given.get("options"), where, reading),
    )


def _with_known_keys(row: dict[str, Any], where: str, reading: Reading) -> dict[str, Any]:
    """Return a row whose known keys are in lower case; warn of a key that looks like a known one misspelled."""
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    texts = TEXT_KEYS if reading.column is None else ()
    for key, value in row.items():
        low = key.strip().lower()
        if low in OWN or low == "tag" or low in texts:
            if (other := spelled.setdefault(low, key)) != key:
                raise SteerError(f"{where}: {other!r} and {key!r} are the same key; keep one, so that none is lost")
            key = key if low in texts else low
        elif low not in TEXT_KEYS and key != reading.column and (close := _misspelled(low)) and close not in row:
            reading.tell(f"key {key}", f"rows have a key {key[:60]!r}, which is metadata; did you mean {close!r}?")
        found[key] = value
    return found


@lru_cache(maxsize=4096)  # the rows of a file have the same keys
def _misspelled(key: str) -> str | None:
    """Return the known key that one is close to, if any."""
    known = (*OWN, "prompt", "text")
    close = get_close_matches(key.replace("-", "_").replace(" ", "_"), known, n=1, cutoff=0.85)
    return close[0] if close else None


def _taken_text(row: dict[str, Any], where: str, reading: Reading) -> str:
    """Take the prompt's text out of a row; other keys that could hold it become metadata."""
    keys = reading.text_keys(row)
    if not keys:
        raise reading.no_text(f"{where}: has no text", row, "keys")
    filled = [key for key in keys if not is_unset(row[key])]
    if not filled:
        raise SteerError(f"{where}: has no text under {keys[0]!r}")
    text = row.pop(filled[0])
    if not isinstance(text, str):
        raise SteerError(f"{where}: got {kind_of(text)} under {filled[0]!r}, expected the text of one prompt")
    for key in keys:
        if is_unset(row.get(key, text)):
            del row[key]
    if TEXT_KEYS[0] in row:  # a render that reads its stored row would take it for the text
        row[f"column {TEXT_KEYS[0]}"] = row.pop(TEXT_KEYS[0])
    return text


def as_row(prompt: Prompt) -> dict[str, Any]:
    """Return plain data that :func:`from_row` turns into the same prompt."""
    row: dict[str, Any] = {"id": prompt.id, "prompt": str(prompt)}
    if prompt.category is not None:
        row["category"] = prompt.category
    if prompt.seed is not None:
        row["seed"] = prompt.seed
    row |= prompt.settings
    if prompt.options:
        row["options"] = {owner: dict(table) for owner, table in prompt.options.items()}
    return {**row, **prompt.metadata}


def _says_nothing(key: str, value: Any, *, typed: bool) -> bool:
    """Whether a known key's value leaves the setting to the run."""
    if typed and SETTING_OF.get(key) == "negative" and value == "":
        return False  # it turns off the run's negative prompt
    return is_missing(value) if not typed and str not in KINDS.get(key, (str,)) else is_unset(value)


def _is_absent(value: Any) -> bool:
    """Whether a table's cell is empty; a text of only spaces may be metadata."""
    return value == "" or (not isinstance(value, str) and is_unset(value))


def _seed(value: Any, where: str, *, typed: bool, wrap: bool) -> int | None:
    if value is None:
        return None
    return check_seed(value, where) if typed and isinstance(value, str) else own_seed(value, where, wrap=wrap)


def _settings(given: Mapping[str, Any], where: str, *, typed: bool) -> dict[str, Any]:
    """Return the settings of a row's known keys."""
    settings: dict[str, Any] = {}
    by_key: dict[str, str] = {}

    def put(name: str, value: Any, key: str) -> None:
        if name in settings and settings[name] != value:
            raise SteerError(f"{where}: {by_key[name]!r} and {key!r} contradict each other; keep one")
        settings[name], by_key[name] = value, key

    given = _with_scheduler(given, where)
    for key, name in SETTING_OF.items():
        if key in given:
            put(name, _converted(key, given[key], where, typed=typed), key)
    if SIZE.key in given:
        for name, side in zip(("width", "height"), _size(given[SIZE.key], where), strict=True):
            put(name, side, SIZE.key)
    for name, value in settings.items():
        try:
            check_setting(name, value)
        except SteerError as error:
            raise SteerError(f"{where}: {error}") from None
    return settings


def _with_scheduler(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the known keys, with A1111's name of a scheduler replaced by ours."""
    given = dict(given)
    sampler, schedule = given.pop(SAMPLER, None), given.get("scheduler")
    if sampler is not None and not isinstance(sampler, str):
        raise SteerError(f"{where}: got {kind_of(sampler)} under {SAMPLER!r}, expected a sampler's name")
    if isinstance(schedule, str) and sampler is not None:
        if schedule.strip().lower() not in SCHEDULES:
            raise SteerError(f"{where}: {SAMPLER!r} and 'scheduler' contradict each other; keep one")
        given["scheduler"] = scheduler_of(sampler, schedule, where)
    elif sampler is not None or isinstance(schedule, str):
        given["scheduler"] = scheduler_of(str(schedule if sampler is None else sampler), None, where)
    return given


def _converted(key: str, value: Any, where: str, *, typed: bool) -> Any:
    """Return a key's value as a number; if ``typed``, a text is returned as it is and refused later."""
    kinds = KINDS[key]
    if typed and isinstance(value, str):
        return value
    if kinds == (int,):
        return whole(value, key, where)
    if float in kinds:
        number = fraction(value, key, where)
        return value if typed and isinstance(value, int) else number
    return value


def _size(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list, as a table's cell holds it
        value = value.strip(" []").split(",")
    if isinstance(value, list | tuple) and len(value) == 2:
        value = [whole(side, SIZE.key, where) for side in value]
    return parse_size(value, where)


def _options(value: Any, where: str, reading: Reading) -> dict[str, dict[str, Any]]:
    """Read method options: an object of objects (or its JSON), assignments, or a text of assignments."""
    if value is None:
        return {}
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise SteerError(f"{where}: options {value[:60]!r} are not JSON") from None
        else:
            value = value.split()
    value = plain(value, where, reading)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        try:
            return {owner: dict(table) for owner, table in parse_assignments(value).items()}
        except SteerError as error:
            raise SteerError(f"{where}: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise SteerError(f'{where}: options are {str(value)[:60]!r}, expected {{"fk": {{"lambda": 4}}}}')
    # parquet fills a struct's absent fields with nulls
    tables = {str(owner): {str(k): v for k, v in table.items() if v is not None} for owner, table in value.items()}
    return {owner: table for owner, table in tables.items() if table}
