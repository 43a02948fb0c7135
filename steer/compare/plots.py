"""Pictures of a comparison: scaling curves, reward beside judge, categories."""

from __future__ import annotations

from typing import Any

from steer.compare.summary import Line, Summary, budget_text
from steer.statistics import Interval
from steer.trace import png

WIDTH, HEIGHT = 8.0, 4.2


def plots(summary: Summary) -> dict[str, bytes]:
    """Return PNG files by name; only those that have something to show."""
    found = {"scores": _scores(summary)}
    by_family = _families(summary)
    if any(len(lines) > 1 for lines in by_family.values()):
        for cost, label in (("nfe", "denoiser evaluations a prompt"), ("seconds", "seconds a prompt")):
            found[f"scaling-{cost}"] = _scaling(summary, by_family, cost, label)
    if any(line.hacking for line in summary.lines):
        found["over-optimisation"] = _hacking(summary)
    return found


def _measure(summary: Summary, line: Line) -> Interval:
    return line.chosen if line.success is None else line.success


def _name(summary: Summary) -> str:
    if summary.success is None:
        return f"{summary.judge}, chosen"
    return f"share with {summary.judge} >= {summary.success:g}"


def _families(summary: Summary) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in summary.lines:
        found.setdefault(line.family, []).append(line)
    return found


def _scores(summary: Summary) -> bytes:
    figure, axes = _figure(height=max(2.0, 0.8 + 0.32 * len(summary.lines)))
    for place, line in enumerate(summary.lines):
        value = _measure(summary, line)
        error = [[value.estimate - value.low], [value.high - value.estimate]]
        axes.errorbar(value.estimate, place, xerr=error, fmt="o", color=_color(summary, line.family), capsize=3)
    labels = [f"{line.label}  {budget_text(line.budget)}".rstrip() for line in summary.lines]
    axes.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(f"{_name(summary)} (95% interval)", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    return png(figure)


def _scaling(summary: Summary, families: dict[str, list[Line]], cost: str, label: str) -> bytes:
    figure, axes = _figure()
    for family, lines in families.items():
        points = sorted((line.cost[cost] or 0.0, _measure(summary, line)) for line in lines)
        x = [point[0] for point in points]
        low = [value.low for _, value in points]
        high = [value.high for _, value in points]
        color = _color(summary, family)
        axes.plot(x, [value.estimate for _, value in points], "o-", color=color, label=_plain(family))
        axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    if cost == "nfe":
        for name, points_ in summary.predictions.items():
            known = [p for p in points_ if not p["extrapolated"]]
            what = "judge" if summary.success is None else "success"
            axes.plot([p["nfe"] for p in known], [p[what] for p in known], ":", color="#888888", lw=1,
                      label=_plain(f"best-of-n predicted from {name}"))  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(_name(summary), parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return png(figure)


def _hacking(summary: Summary) -> bytes:
    figure, axes = _figure(width=5.4)
    for line in summary.lines:
        if line.hacking:
            axes.scatter(line.hacking["reward"], line.hacking["judge"], color=_color(summary, line.family), s=24)
            axes.annotate(
                _plain(f"{line.label} {budget_text(line.budget)}"), (line.hacking["reward"], line.hacking["judge"]),
                fontsize=6, xytext=(3, 3), textcoords="offset points",
            )  # fmt: skip
    top = max(max(line.hacking.values()) for line in summary.lines if line.hacking)
    axes.plot([0, top], [0, top], "--", color="#aaaaaa", lw=1)
    axes.set_xlabel("gain of the steered reward, sd")
    axes.set_ylabel(f"gain of {summary.judge}, sd", parse_math=False)
    axes.grid(alpha=0.3)
    return png(figure)


def _figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _color(summary: Summary, family: str) -> str:
    return f"C{list(_families(summary)).index(family) % 10}"


def _plain(text: str) -> str:
    """Return text that matplotlib takes as it is: a dollar sign begins a formula, an underscore hides a label."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
