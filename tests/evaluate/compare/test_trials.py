"""Trials in seconds on a machine whose pace changes, and methods that draw in turn."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from steer import Sampler
from steer.evaluate.compare.budgets import Budget, Spent, fit
from steer.evaluate.compare.compare_all import Request, compare_all
from steer.evaluate.compare.measure import Measurer, Settings
from steer.evaluate.compare.spec import parse_entries
from steer.evaluate.compare.trials import Trials
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.render.spec import tasks_of
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

TASKS = tasks_of([(number, Prompt(f"prompt {number}")) for number in range(24)])


class Machine:
    """Its clock runs at a pace that changes slowly; batches of 16 are padded; the first use of an entry sets it up."""

    def __init__(self, each: dict[str, float], wander: float = 0.0, period: float = 400.0) -> None:
        self.each, self.wander, self.period = {**each, "yardstick": 0.01}, wander, period
        self.now, self.readings, self.most = 0.0, [], 0

    def fills(self, entry, task) -> bool:
        return entry.settings["particles"] % 16 == 0

    def packs(self, entry, tasks):
        size = max(1, 64 // entry.settings["particles"])
        return [tasks[start : start + size] for start in range(0, len(tasks), size)]

    def trial(self, entry, tasks) -> Spent:
        setup = 0.0 if entry.label in self.readings else 70.0
        self.readings.append(entry.label)
        if entry.label != "yardstick":
            self.most = max(self.most, len(tasks))
        particles = entry.settings["particles"]
        pace = 1 + self.wander * math.sin(2 * math.pi * self.now / self.period)
        took = 0.05 + self.each[entry.label] * -(-particles * len(tasks) // 16) * 16 / len(tasks)
        self.now += took * pace * len(tasks)
        return Spent(particles, took * pace + setup / len(tasks))


def sizes(machine: Machine, budget: float) -> dict[str, int]:
    trials = Trials(machine, TASKS)
    entries = parse_entries([f"{label}=plain" for label in machine.each if label != "yardstick"], (), manager())
    fitted = [fit(entry, Budget("seconds", budget), trials.of("seconds"), manager()) for entry in entries]
    return {entry.label: entry.settings["particles"] for entry in fitted}


def test_the_machines_pace_does_not_decide_who_draws_more() -> None:
    each = {f"m{number}": 0.01 * (1 + number % 3) for number in range(12)}
    steady, wandering = Machine(each), Machine(each, wander=0.4)
    right, found = sizes(steady, 1.0), sizes(wandering, 1.0)
    assert wandering.now > wandering.period  # it was fast and slow during the fits
    for label, size in right.items():
        exact = (1.0 - 0.05) / each[label]
        assert 0.85 * exact <= size <= exact + 1
        assert found[label] == pytest.approx(size, rel=0.1)


def test_a_trial_fills_the_batches_that_the_run_will_fill() -> None:
    machine = Machine({"m": 0.01})
    trials = Trials(machine, TASKS)
    for particles, prompts in ((1, 24), (5, 12), (16, 4), (20, 6), (64, 4)):
        (entry,) = parse_entries([f"m=plain:particles={particles}"], (), manager())
        machine.most = 0
        trials.of("seconds")(entry)
        assert machine.most == prompts


def test_only_short_readings_are_repeated() -> None:
    for each, readings in ((0.001, 3), (1.0, 1)):
        machine = Machine({"m": each})
        trials = Trials(machine, TASKS)
        (entry,) = parse_entries(["m=plain:particles=1"], (), manager())
        trials.of("seconds")(entry)
        before = machine.readings.count("m")
        trials.of("seconds")(entry)
        assert machine.readings.count("m") == before + readings


def test_evaluations_take_one_prompt_once() -> None:
    machine = Machine({"m": 0.1}, 0.0)
    trials = Trials(machine, TASKS)
    (entry,) = parse_entries(["m=plain:particles=3"], (), manager())
    assert trials.of("nfe")(entry).nfe == trials.of("nfe")(entry).nfe == 3
    assert (machine.readings, machine.most) == (["m"], 1)


@pytest.mark.slow  # trials by the clock, and 120 drawings
def test_methods_that_are_compared_in_seconds_draw_in_turn(tiny: Path, place: Path) -> None:
    (place / "judge.py").write_text("def contrast(samples, prompts): return samples.std(dim=(1, 2, 3))")
    told = []
    request = Request(
        prompts=[Prompt(f"circle {number}", settings={"steps": 1 + number % 2}) for number in range(60)],
        methods=["plain", "best-of-n"],
        sampling=SamplingRequest(
            model=str(tiny),
            reward=("./rewards.py:brightness",),
            judge=("./judge.py:contrast",),
            device="cpu",
            settings=RunSettings(steps=1, guidance_scale=1.0),
        ),
        budget=["seconds=0.2"],
        clock="cpu",
    )
    summary = compare_all(request, str(place / "c"), tell=lambda what, done, total: told.append((what, done, total)))
    drawn = [(what.partition(" ")[0], done) for what, done, total in told if total == 60 and "@" in what]
    turns = [name for name, _ in itertools.groupby(name for name, _ in drawn)]
    assert turns == ["plain", "best-of-n", "plain", "best-of-n"]
    assert dict(drawn) == {"plain": 60, "best-of-n": 60}
    assert [line.prompts for line in summary.lines] == [60, 60]


def test_a_cell_knows_the_weights_of_its_reward_though_it_is_not_steered() -> None:
    sampler = Sampler("shapes", device="cpu")
    measurer = Measurer(sampler, Settings(["clip:shapes+shapes-objects"], ["shapes-count"]))
    (plain,) = parse_entries(["plain"], (), manager())
    names = measurer.sources(plain, Prompt("a red circle")).keys()
    assert {"unet in fp32", "reward clip:shapes in fp32", "reward shapes-objects in fp32"} <= names
    assert "judge shapes-count shapes-count in fp32" in names
