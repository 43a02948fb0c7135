"""The ``steer`` command in this process with the model's work left out: every sample is a blank picture or one text.

All else is what users run: command lines, run files, recipes, plans, folders, pages and messages.
"""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from PIL import Image

from steer.cli.parts.shared import quiet_libraries

CPU_SECONDS, MEGABYTES = 2.0, 300
"""What one command may take."""

MESSAGE = 1000
"""Characters of a message at most."""

PRECIOUS = b"nothing of ours\n"
REWARDS = """
def bright(samples, prompts): return samples.mean(dim=(1, 2, 3))
def zero(samples, prompts): return bright(samples, prompts) * 0
"""


class Reached(BaseException):
    """Work was reached that is left out."""


class TooLong(BaseException):
    """A command took more than :data:`CPU_SECONDS`."""


@dataclass(frozen=True)
class Command:
    """A command and the files that it finds.

    Attributes:
        arguments: of ``steer``.
        files: by name, in the folder that it runs in.
        writes: beginnings of the names that it may write.
        links: symbolic links by name.
    """

    arguments: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)

    def lay_out(self, folder: Path) -> None:
        """Write its files and links."""
        _write(folder, {"rewards.py": REWARDS.encode(), **self.files})
        for name, target in self.links.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(target)

    def keep(self, folder: Path) -> None:
        """Write it down, so that it can be run by hand."""
        shutil.rmtree(folder, ignore_errors=True)
        self.lay_out(folder)
        (folder / "arguments.json").write_text(json.dumps(self.arguments))


class Place:
    """A folder to run commands in; beside it lies what nothing may touch.

    Attributes:
        messages: what the last command wrote to stderr.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.work, self.messages = base, base / "in" / "work", ""

    def run(self, command: Command) -> str:
        """Run a command and look at all that it leaves; return how it ended.

        Raises:
            AssertionError: for what no command may do.
        """
        shutil.rmtree(self.base, ignore_errors=True)
        _write(self.base / "outside", {"precious.txt": PRECIOUS})
        command.lay_out(self.work)
        os.chdir(self.work)
        before, peak = contents(self.base), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        code, out, err = _main(command.arguments)
        self.messages = err
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        assert grown < MEGABYTES, f"took {grown:.0f} MB"
        for text in (err, "" if "--csv" in command.arguments else out):  # CSV is for programs, text as it is
            bad = sorted({character for character in text if not (character.isprintable() or character == "\n")})
            assert not bad, f"the terminal gets {bad}: {text[:500]!r}"
        self._check_files(before, command, refused=code == 2)
        if code != 2:
            if "--json" in command.arguments and code is not None and "--dry-run" not in command.arguments:
                _check_json(out, lines="render" in command.arguments)
            return "accepted"
        *notes, last = err.splitlines()
        said = out if "render" not in command.arguments else ""  # which tells what it begins
        assert last.startswith("steer: error: ") and not said, f"no message of one line: {said[:300]!r} {err[-500:]!r}"
        assert not any(line.startswith("steer: error") for line in notes), f"several messages: {err[:500]!r}"
        assert len(last) <= MESSAGE, f"a message of {len(last)} characters: {last[:300]!r}"
        return "refused"

    def _check_files(self, before: Mapping[str, bytes], command: Command, *, refused: bool) -> None:
        after = contents(self.base)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        inside = "in/work/"
        for name in sorted(changed):
            own = name.removeprefix(inside) if name.startswith(inside) else None
            assert not name.endswith(".part"), f"{name} is half-written"
            # what a comparison measured before is kept
            kept = name in after and after[name].endswith(b"\n") and ("/cells/" in name or name.endswith("/fits.json"))
            if refused and not (name.endswith("/.lock") or kept):
                raise AssertionError(f"refused, but {name} was {'written' if name in after else 'removed'}")
            allowed = own is not None and own.startswith(command.writes) if command.writes else False
            assert allowed, f"{name} was {'written' if name in after else 'removed'}"
            if name in after:
                _check_whole(name, after[name])


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by name, without byte code."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _check_json(text: str, *, lines: bool) -> None:
    for part in text.split("\n")[:-1] if lines else [text]:
        json.loads(part, parse_constant=_refuse)


def _check_whole(name: str, data: bytes) -> None:
    try:
        if name.endswith(".json"):
            _check_json(data.decode("utf-8", "surrogatepass"), lines=False)
        elif name.endswith("metadata.jsonl"):
            _check_json(data.decode(), lines=True)
        elif name.endswith((".png", ".webp")):
            with Image.open(io.BytesIO(data)) as image:
                image.load()
    except (ValueError, OSError) as error:
        raise AssertionError(f"{name} was written damaged: {error}") from None


def _main(arguments: Sequence[str]) -> tuple[int | None, str, str]:
    """Run ``steer``; return its exit code (``None`` if it came to what is left out) and what it printed."""
    from steer.cli.app import main

    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
    code: int | None = 0
    logger = logging.getLogger("steer")
    with (
        patch.object(sys, "argv", ["steer", *arguments]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO())),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
        warnings.catch_warnings(action="always"),
        timed(),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Reached:
            code = None
        finally:
            for handler in list(logger.handlers):
                handler.close()
                logger.removeHandler(handler)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)  # type: ignore[attr-defined]
    return code, out, err


@contextmanager
def timed() -> Iterator[None]:
    """End a block that takes too much processor time: other work on the machine does not count."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"took more than {CPU_SECONDS} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def dry() -> Iterator[Place]:
    """Leave the work of models out for the length of a block, and give a place to run commands in."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    os.environ.pop("STEER_MODEL", None)
    quiet_libraries()
    here = Path.cwd()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(os.chdir, here)
        for target, stand_in in _stand_ins().items():
            stack.enter_context(patch(target, stand_in))
        yield Place(folder / "place")


def _stand_ins() -> dict[str, Any]:
    from steer.evaluate.compare.measure import Measured
    from steer.models import load
    from steer.models.device import pick_device, pick_dtype
    from steer.models.options import ModelOptions
    from steer.registry.plugins import manager
    from steer.results.items import Item, Sample
    from steer.sampling.chosen_particles import chosen_of

    real = load.load_model
    models = {name: real(name, manager(), device="cpu") for name in ("shapes", "text:shapes")}

    def load_model(model: Any, plugins: Any, *, device: Any = None, dtype: Any = None, options: Any = None) -> Any:
        if model not in models:
            return real(model, plugins, device=device, dtype=dtype, options=options)
        pick_dtype(dtype, pick_device(device))
        if options not in (None, ModelOptions()):
            raise Reached
        return models[model]

    def items(session: Any, run: Any) -> list[Any]:
        return [item(session, run, job) for job in run.jobs]

    def item(session: Any, run: Any, job: Any) -> Any:
        value: Any = Image.new("RGB", (16, 16)) if run.backbone.modality == "image" else "a small town"
        score = None if run.reward is None else 0.5
        samples = tuple(Sample(value, slot, score, 0.0) for slot in range(min(run.particles, 3)))
        recipe = session.recipes.of(
            run, run.jobs.index(job), session.options_of(job.prompt), run.backbone.medium.size(value)
        )
        trace = {"schema": 1, "log_z": None, "unique_ancestors": 1, "events": []}
        chosen = chosen_of(samples, session.choose, job)
        return Item(job.prompt, job.seed, samples, chosen, trace, recipe, run.backbone.modality)

    def rows(measurer: Any, entry: Any, tasks: Any, *, scored: bool = True) -> Iterator[Any]:
        session = measurer.session(entry)
        session.groups([task.prompt for task in tasks])
        for task in tasks:
            scores = [0.25, 0.75]
            row = {
                "id": task.prompt.id,
                "index": task.index,
                "replicate": task.replicate,
                "prompt": str(task.prompt),
                "category": task.prompt.category,
                "seed": 1,
                "choose": session.choose,
                "reward": 0.75,
                "judge": dict.fromkeys(measurer._judges, 0.75),
                "rewards": scores,
                "chosen": [1],
                "judges": dict.fromkeys(measurer._judges, scores),
                "ancestors": 1,
                "nfe": 4,
                "seconds": 0.1,
                "backwards": 0,
                "decodes": 2,
                "reward_calls": 2,
                "padding": 0,
                "memory_mb": 1.0,
            }
            yield Measured(row, Image.new("RGB", (16, 16)))

    def left_out(*arguments: Any, **keywords: Any) -> Any:
        raise Reached

    return {
        "steer.sampling.sampler.load_model": load_model,
        "steer.sampling.session.Session.items": items,
        "steer.sampling.session.Session._with_weights": lambda session, run: run,
        "steer.sampling.session._encode": lambda run: None,
        "steer.evaluate.compare.measure.Measurer.rows": rows,
        "steer.evaluate.compare.measure.Measurer.check": lambda *_: None,
        "steer.evaluate.compare.compare_all.load_embedding": lambda *_: None,
        "steer.evaluate.compare.compare_all.report": lambda *_: {},
        "steer.render.ray_engine.RayEngine": left_out,
        "os.fsync": lambda handle: None,
    }
