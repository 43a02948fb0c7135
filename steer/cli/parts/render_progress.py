"""Progress of a render: one line that changes, or events for scripts."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict
from typing import Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.shared import count, one_line
from steer.cli.parts.streams import put_json
from steer.models.media import media_of
from steer.registry.registration import hookimpl
from steer.render.engine import PlannedGroup
from steer.render.tally import Progress as Standing
from steer.render.watcher import Plan, Summary
from steer.sampling.state import State

EVENT_SECONDS = 5.0
"""Seconds between two ``progress`` events of ``--json``."""


class JsonEvents:
    """One JSON object per line on stdout: ``begin``, ``done``, ``failed``, ``progress``, ``stopping``, ``end``."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __enter__(self) -> JsonEvents:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def begin(self, plan: Plan, place: str) -> None:
        """Report the plan."""
        self._tell("begin", out=place, **_plan_facts(plan))

    def done(self, row: Mapping[str, Any], progress: Standing) -> None:
        """Report a prompt that is written."""
        self._tell("done", id=row["id"], files=row["files"], reward=row["reward"], judge=row["judge"])
        self._progress(progress)

    def failed(self, row: Mapping[str, Any], progress: Standing) -> None:
        """Report a prompt that failed."""
        self._tell("failed", id=row["id"], reason=row["reason"])
        self._progress(progress)

    def stopping(self) -> None:
        """Report that the user asked to stop."""
        self._tell("stopping")

    def end(self, summary: Summary) -> None:
        """Report the result."""
        self._tell("end", **_summary_facts(summary))

    def _progress(self, progress: Standing) -> None:
        if time.monotonic() - self._told >= EVENT_SECONDS:
            self._told = time.monotonic()
            self._tell("progress", **asdict(progress))

    @staticmethod
    def _tell(event: str, **facts: Any) -> None:
        put_json({"event": event, **facts}, indent=None)


class ProgressLine(Bar):
    """One line on stderr: images per second, time left, failures, mean and best reward; a summary at the end.

    It is also an observer of runs, to show the step of the pack that is being made.
    """

    def __init__(self) -> None:
        super().__init__("", lines=True)
        self._note, self._step, self._word = "", "", "image"
        self.note("loading the model")

    def begin(self, plan: Plan, place: str) -> None:
        """Say how much there is to do."""
        self._word = plan.word
        before = f", {plan.done} are done" if plan.done else ""
        failed = f", {plan.failed} failed before (--retry-failed retries them)" if plan.failed else ""
        self.say(f"{place}: {count(plan.tasks, 'prompt')}{before}{failed}")
        if plan.todo:
            self.show(0, plan.todo)

    def done(self, row: Mapping[str, Any], progress: Standing) -> None:
        """Update the line."""
        self._show(progress)

    def failed(self, row: Mapping[str, Any], progress: Standing) -> None:
        """Say which prompt failed and why."""
        self.say(f"failed: {row['id']}: {row['reason']}")
        self._show(progress)

    def stopping(self) -> None:
        """Say what Ctrl-C does."""
        # in a signal handler: the console's own lock may be held by the very code that was interrupted
        os.write(2, b"\nfinishing what is in flight; Ctrl-C again stops at once\n")

    def end(self, summary: Summary) -> None:
        """Report the result and, if the render was stopped, how to resume it."""
        self.close()
        made, cost, word = summary.progress, summary.cost, summary.plan.word
        rate = made.images / summary.seconds if summary.seconds else 0.0
        reward = "" if made.mean_reward is None else f", reward mean {made.mean_reward:.3f} best {made.best_reward:.3f}"
        self.say(
            f"{count(made.images, word)} in {_clock(summary.seconds)}, {rate:.2f} {word}s/s{reward}; "
            f"{count(cost.nfe, 'denoiser evaluation')}, {count(cost.decodes, 'decode')}, "
            f"{count(cost.reward_calls, 'reward call')}"
        )
        place = summary.place
        failed = f", {summary.failed} failed: add --retry-failed to retry them" if summary.failed else ""
        tasks = count(summary.plan.tasks, "prompt")
        self.say(f"{summary.done} of {tasks} done{failed}; look at {place}/index.html")
        if summary.stopped:
            self.say(f"stopped; to resume: steer render --config {place}/run.toml")

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Show the step of the pack."""
        result = yield
        self._step = f", step {state.step}/{state.steps}"
        self.note(self._note + self._step)
        return result

    def _show(self, progress: Standing) -> None:
        settled = progress.done + progress.failed
        self._note = f"{settled}/{progress.total} {_note(progress, self._word)}"
        self.show(settled, note=self._note + self._step)


def print_plan(plan: Plan, place: str, as_json: bool) -> None:
    """Print what a render would do: prompts by group, denoiser evaluations, samples and disk space."""
    if as_json:
        groups = [
            {
                "prompts": group.count,
                "packs": len(group.packs),
                "nfe": group.nfe,
                "drops": group.drops,
                "settings": dict(group.settings),
            }
            for group in plan.groups
        ]
        put_json({"out": place, **_plan_facts(plan), "groups": groups})
        return
    click.echo(
        f"{one_line(place)}: {count(plan.tasks, 'prompt')}, {plan.done} done, {plan.failed} failed, {plan.todo} to do"
    )
    for group in plan.groups:
        s, size = group.settings, media_of(group.modality).size_text(group.size)
        size += f", {count(group.frames, 'frame')}" if group.frames > 1 else ""
        guidance = "" if s["guidance_scale"] is None else f"guidance {s['guidance_scale']:g}, "
        click.echo(
            f"  {count(group.count, 'prompt')} in {count(len(group.packs), 'pack')}: "
            f"{count(s['particles'], 'particle')}, {count(s['steps'], 'step')}, {guidance}"
            f"{size}, chunk {s['chunk']}, {_apart(group)}{_at_most(group.drops)}"
            f"{count(group.nfe, 'denoiser evaluation')} each"
        )
    more = " (for one pass; a method that searches takes more)" if plan.searching else ""
    evaluations = f"{_at_most(plan.drops)}{count(plan.nfe, 'denoiser evaluation')}"
    click.echo(f"{count(plan.images, plan.word)}, {evaluations}{more}")
    free = "" if plan.free_bytes is None else f", {_bytes(plan.free_bytes)} free"
    click.echo(f"about {_bytes(plan.bytes)} on disk{free}")
    if plan.free_bytes is not None and plan.bytes > plan.free_bytes:
        click.echo("steer: warning: the render needs more disk space than is free", err=True)


def _at_most(drops: bool) -> str:
    return "at most " if drops else ""


TOLD = frozenset({"particles", "steps", "guidance_scale", "width", "height", "length", "chunk"})
"""Settings that the plan shows for every group."""


def _apart(group: PlannedGroup) -> str:
    """Return what else distinguishes a group: the other settings and the options of its prompts."""
    prompt = group.packs[0][0]
    facts = {name: value for name, value in prompt.settings.items() if name not in TOLD}
    facts |= {f"{owner}.{name}": value for owner, table in prompt.options.items() for name, value in table.items()}
    return "".join(f"{one_line(f'{name} {value}')}, " for name, value in facts.items())


def _plan_facts(plan: Plan) -> dict[str, Any]:
    return {
        "prompts": plan.tasks,
        "done": plan.done,
        "failed": plan.failed,
        "todo": plan.todo,
        "images": plan.images,
        "nfe": plan.nfe,
        "drops": plan.drops,
        "bytes": plan.bytes,
        "free_bytes": plan.free_bytes,
    }


def _summary_facts(summary: Summary) -> dict[str, Any]:
    return {
        "out": summary.place,
        "prompts": summary.plan.tasks,
        "done": summary.done,
        "failed": summary.failed,
        "stopped": summary.stopped,
        "seconds": summary.seconds,
        "session": asdict(summary.progress),
        "cost": summary.cost.as_dict(),
    }


def _note(progress: Standing, word: str) -> str:
    parts = [f"{progress.images_per_second:.2f} {word}s/s"]
    if progress.seconds_left is not None:
        parts.append(f"{_clock(progress.seconds_left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.mean_reward is not None:
        parts.append(f"reward mean {progress.mean_reward:.3f} best {progress.best_reward:.3f}")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _bytes(size_in_bytes: int) -> str:
    size = float(size_in_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
