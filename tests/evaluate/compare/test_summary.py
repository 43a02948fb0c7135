"""What a summary says of rows that were written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steer.evaluate.compare.budgets import Budget
from steer.evaluate.compare.comparison import Cell
from steer.evaluate.compare.plots import plots
from steer.evaluate.compare.report import report
from steer.evaluate.compare.spec import Entry
from steer.evaluate.compare.summary import summarize
from steer.evaluate.compare.tables import tables

COSTS = {"nfe": 8, "backwards": 0, "decodes": 2, "padding": 0, "seconds": 0.1, "memory_mb": 10.0, "ancestors": 2}


def cell(label: str, judged: list[list[float]], *, choose: str = "best", calls: float = 0.0, methods=()) -> Cell:
    """Return a cell of one row per prompt, its reward twice the judge's score."""
    rows: list[dict[str, Any]] = []
    for index, values in enumerate(judged):
        chosen = list(range(len(values))) if choose == "all" else [int(np.argmax(values))]
        mean = float(np.mean([values[i] for i in chosen]))
        rows.append({
            **COSTS, "reward_calls": calls, "id": str(index), "index": index, "replicate": 0, "prompt": "a",
            "category": None, "seed": index, "choose": choose, "judge": {"j": mean}, "judges": {"j": values},
            "reward": 2 * mean, "rewards": [2 * value for value in values], "chosen": chosen,
        })  # fmt: skip
    return Cell(Entry(label, label, tuple(methods)), None, tuple(rows))


PLAIN = [[0.0, 1.0], [1.0, 0.2], [0.4, 1.0], [0.0, 0.4], [0.6, 0.0], [1.0, 1.0]]


def test_gains_and_predictions_come_from_samples_that_no_reward_had_a_hand_in() -> None:
    steered = cell("fk", [[1.0, 1.0]] * 6, choose="all", calls=4.0, methods=["fk"])
    student = cell("dmd2", PLAIN[::-1], choose="all", methods=["dmd2"])
    plain = cell("plain", PLAIN, choose="all")
    best = cell("best-of-n", PLAIN, calls=2.0, methods=["best-of-n"])
    found = summarize([steered, student, best, plain], "best-of-n", 1.0)
    assert set(found.predictions) == {"plain", "dmd2"}
    two = next(point for point in found.predictions["plain"] if point["n"] == 2)
    line = {line.label: line for line in found.lines}
    assert two["judge"] == pytest.approx(line["best-of-n"].chosen.estimate)
    assert two["success"] == pytest.approx(line["best-of-n"].success.estimate) == 4 / 6
    # by hand: the unbiased sd within a prompt, of pairs that differ by d: d/sqrt(2)
    pairs = np.array([abs(a - b) for a, b in PLAIN])
    sd = float(np.sqrt(np.mean(pairs**2 / 2)))
    best_gain = (np.mean([max(row) for row in PLAIN]) - np.mean(PLAIN)) / sd
    assert line["best-of-n"].hacking == {"reward": pytest.approx(best_gain), "judge": pytest.approx(best_gain)}
    assert line["plain"].hacking == {"reward": pytest.approx(0, abs=1e-12), "judge": pytest.approx(0, abs=1e-12)}
    alone = summarize([steered, best], "best-of-n", 1.0)
    assert alone.predictions == {} and all(line.hacking is None for line in alone.lines)


def test_the_population_counts_beside_the_chosen_one() -> None:
    found = summarize([cell("fk", [[1.0, 0.5]] * 3 + [[1.0, 1.0]] * 3), cell("best-of-n", PLAIN)], "best-of-n", 1.0)
    fk, best = found.lines
    assert (fk.population.estimate, best.population.estimate) == (pytest.approx(4.5 / 6), pytest.approx(2.5 / 6))
    assert fk.against.population.estimate == pytest.approx(2 / 6)
    assert [column for table in tables(found)[:2] for column in table.head if "particles" in column] == [
        "j, particles", "j >= 1, particles", "success, particles",
    ]  # fmt: skip


@pytest.mark.slow
def test_variants_of_one_cost_are_curves_of_their_own(monkeypatch) -> None:
    """Compared by the lines that matplotlib is given."""
    cells = []
    for amount in (8, 16):
        for entry, judged in (("plain", PLAIN), ("fk lambda=1", PLAIN[::-1]), ("fk lambda=5", [[1.0]] * 5 + [[0.0]])):
            made = cell(entry, judged, choose="all" if entry == "plain" else "best", calls=float(entry != "plain"))
            for row in made.rows:
                row["nfe"] = amount
            cells.append(
                replace(made, entry=replace(made.entry, family=entry.split()[0]), budget=Budget("nfe", amount))
            )
    figures = []
    monkeypatch.setattr("steer.evaluate.compare.plots.png", lambda figure: figures.append(figure) or b"")
    assert set(plots(summarize(cells, "plain", 1.0))) == {
        "scores", "scaling-nfe", "scaling-seconds", "over-optimization"
    }  # fmt: skip
    axes = figures[1].axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    assert drawn == {"plain": [8, 16], "fk lambda=1": [8, 16], "fk lambda=5": [8, 16]}
    figures[1].canvas.draw()
    ticks = [text.get_text() for text in axes.get_xticklabels() if text.get_text()]
    assert len(ticks) >= 3 and all(float(text) >= 0 for text in ticks)  # plain numbers


def test_one_variant_can_be_the_reference() -> None:
    variants = [cell(f"best-of-n steps={steps}", PLAIN, calls=1.0) for steps in (5, 10)]
    variants = [replace(made, entry=replace(made.entry, family="best-of-n")) for made in variants]
    cells = [cell("plain", PLAIN, choose="all"), *variants]
    assert not any(line.against for line in summarize(cells, "best-of-n", None).lines)  # which of them?
    named = summarize(cells, "best-of-n steps=10", None).lines
    assert [line.against is not None for line in named] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_or_none_succeed(value) -> None:
    cells = [cell("plain", [[value, value]] * 6, choose="all"), cell("best-of-n", [[value]] * 6, calls=1.0)]
    found = summarize(cells, "best-of-n", 1.0)
    told = json.dumps(found.as_dict(), allow_nan=False)  # no NaN, no infinity
    plain = json.loads(told)["lines"][0]
    assert plain["success"]["estimate"] == value and 0.3 < plain["success"]["high"] - plain["success"]["low"] < 0.6
    assert plain["against"]["success"]["low"] < 0 < plain["against"]["success"]["high"]
    assert plain["against"]["wins"]["estimate"] == 0.5
    assert (plain["against"]["failures"] is None) == (value == 1)
    assert plain["hacking"] is None
    files = report(found, ["a fact"], [])
    assert (
        "nan"
        not in files["report.html"].decode().replace("data:image/png;base64", "").partition("<h2>scores")[0].lower()
    )
