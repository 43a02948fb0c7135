"""The plot of a search: every candidate's reward over the evaluations spent, and the method's other values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from steer.results.lettering import is_shown

COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
OWN = ("origin", "reward", "spent", "iteration")
"""Values in the upper panel; the other values of candidates are drawn below."""


def draw_search(trace: dict[str, Any]) -> Any:
    """Return a figure of a trace with candidates.

    Above: each candidate's reward over the denoiser evaluations spent on the prompt until then, colored by its origin,
    and the best so far. Below, for a search with iterations: the mean over seeds of the candidates' other values
    (single rewards, watched rewards), each scaled to 0..1 over its own range.
    """
    from matplotlib.figure import Figure

    events = [event for event in trace["events"] if event["kind"] == "candidate"]
    curves = _curves(events)
    figure = Figure(figsize=(9, 7 if curves else 4), layout="constrained")
    panels = figure.subplots(2 if curves else 1, 1, squeeze=False)[:, 0]
    notes = [event["text"] for event in trace["events"] if event["kind"] == "note"]
    figure.suptitle("\n".join(map(shorten, [trace["prompt"], *notes])), parse_math=False, fontsize=11)
    _draw_candidates(panels[0], events)
    if curves:
        _draw_curves(panels[1], curves)
    return figure


def _draw_candidates(axes: Any, events: Sequence[dict[str, Any]]) -> None:
    points: dict[str, list[tuple[float, float]]] = {}
    best: list[tuple[float, float]] = []
    for event in events:
        rows = zip(event["spent"], event["reward"], event["origin"], strict=True)
        for spent, reward, origin in rows:
            points.setdefault(origin, []).append((spent, reward))
        top = max(event["reward"])
        best.append((max(event["spent"]), max(top, best[-1][1]) if best else top))
    for color, (origin, pairs) in zip(COLORS, points.items(), strict=False):
        axes.plot(*zip(*pairs, strict=True), ".", color=color, alpha=0.7, label=origin)
    axes.plot(*zip(*best, strict=True), drawstyle="steps-post", color="black", lw=1.2, label="best so far")
    axes.set_xlabel("denoiser evaluations spent on this prompt (a backward pass counts as two)")
    axes.set_ylabel("reward")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False)


def _curves(events: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return the mean over rows of all further values, by iteration; a break between the populations of a search.

    A row that has stopped counts with its last value: without it, the mean would change because a row is missing.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    last: dict[str, dict[int, float]] = {}
    draw = None
    for event in events:
        if "iteration" not in event:
            continue
        if draw not in (None, event["draw"]):
            last = {}
            for curve in curves.values():
                curve.append((math.nan, math.nan))
        draw = event["draw"]
        for name, values in event.items():
            if name in (*OWN, "kind", "step", "timestep", "draw", "slots"):
                continue
            known = last.setdefault(name, {})
            known.update(zip(event["slots"], values, strict=True))
            curves.setdefault(name, []).append((event["iteration"][0], sum(known.values()) / len(known)))
    return {name: curve for name, curve in curves.items() if len(curve) > 1}


def _draw_curves(axes: Any, curves: dict[str, list[tuple[float, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for color, (name, curve) in zip(COLORS * (1 + len(curves) // len(COLORS)), curves.items(), strict=False):
        x, y = zip(*curve, strict=True)
        low, high = np.nanmin(y), np.nanmax(y)
        width = high - low or 1.0
        label = f"{name} ({low:.3g} to {high:.3g})"
        style = "--" if name.startswith(("watch ", "guard ")) else "-"
        axes.plot(x, [(value - low) / width for value in y], style, color=color, lw=1.5, label=shorten(label, 60))
    axes.set_xlabel("iteration")
    axes.set_ylabel("mean over seeds, over its range")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False)


def shorten(text: str, width: int = 100) -> str:
    """Return text on one line of so many columns, for a title; letters of Chinese, Japanese and Korean take two."""
    text = " ".join("".join(c if is_shown(c) else " " for c in text).split())
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
