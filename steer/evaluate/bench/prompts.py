"""A benchmark's prompts: its files found, checked and read; the whole set, a part of it, or one shard."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import Benchmark, PromptFile
from steer.models.downloads import weights
from steer.models.downloads.fetching import digest
from steer.prompts.prompt import Prompt
from steer.prompts.rows import as_row
from steer.settings.strict_json import json_text


def prompts_of(name: str, benchmark: Benchmark, given: Path | None = None) -> list[Prompt]:
    """Return all prompts of a benchmark.

    Args:
        name: of the benchmark, for messages.
        benchmark: the specification.
        given: the user's copy of its file, or a folder with its files.

    Raises:
        SteerError: if a file is missing and cannot be fetched, or is another than the published one.
    """
    if given is not None and not benchmark.files:
        raise SteerError(f"benchmark {name} brings its own prompts; leave --prompts out")
    if given is not None and len(benchmark.files) > 1 and given.is_file():
        names = ", ".join(file.name for file in benchmark.files)
        raise SteerError(f"--prompts {given}: {name} has {len(benchmark.files)} files ({names}); give their folder")
    data = {file.name: _bytes(name, file, given) for file in benchmark.files}
    return list(benchmark.read(data))


def some(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """Return at most ``limit`` prompts, spread evenly over all."""
    count = len(prompts) if limit is None else min(limit, len(prompts))
    return [prompts[place * len(prompts) // count] for place in range(count)]


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return the number of a shard and their count for ``"2/8"``.

    Raises:
        SteerError: for anything else.
    """
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= 65_536):
        raise SteerError(f"shard {text[:60]!r}: expected NUMBER/COUNT with a number from 1 to the count, such as 2/8")
    return int(number), int(count)


def digest_of(prompts: Sequence[Prompt]) -> str:
    """Return a hash of prompts with everything that belongs to them."""
    rows = json_text([as_row(prompt) for prompt in prompts], sort_keys=True)
    return hashlib.blake2b(rows.encode(), digest_size=8).hexdigest()


def _bytes(name: str, file: PromptFile, given: Path | None) -> bytes:
    path = _fetched(name, file) if given is None else _own(file, given)
    if not _matches(path, file):
        kept = "delete it, and it is fetched again" if given is None else "the figures would not be comparable"
        raise SteerError(
            f"prompts {path} are not the {file.name} that {name} is defined by (another checksum): {kept}; for prompts "
            "of your own use steer render and steer score"
        )
    return path.read_bytes()


def _fetched(name: str, file: PromptFile) -> Path:
    cached = weights.cached(file.needed)
    if cached is None and not weights.reachable(file.needed):
        host = urllib.parse.urlsplit(file.url).hostname
        raise SteerError(
            f"{name} needs {file.name} of {file.owner}, which is not in the hub's cache, and {host} cannot be reached: "
            f"run `steer download {name}` on a machine that can, or copy it here and give --prompts PATH"
        )
    return cached or weights.fetch(file.needed)


def _own(file: PromptFile, given: Path) -> Path:
    path = given / file.name if given.is_dir() else given
    if not path.is_file():
        raise SteerError(f"--prompts {given}: there is no {file.name}; fetch it from {file.url}")
    return path


def _matches(path: Path, file: PromptFile) -> bool:
    if file.sha256:
        return digest(path, "sha256") == file.sha256
    return not file.git or digest(path, "git") == file.git
