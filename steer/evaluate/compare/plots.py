"""Pictures of a comparison: scaling curves, reward beside judge, categories."""

from typing import Any

from steer.evaluate.compare.summary import Line, Summary, budget_text
from steer.evaluate.statistics import Interval
from steer.results.lettering import drawable
from steer.results.trace_plot import png


def plots(summary: Summary) -> dict[str, bytes]:
    """Return PNG files by name; plots without data are left out."""
    found = {"scores": _scores(summary)}
    curves = _curves(summary)
    if any(len(lines) > 1 for lines in curves.values()):
        for cost, label in (("nfe", "denoiser evaluations per prompt"), ("seconds", "seconds per prompt")):
            found[f"scaling-{cost}"] = _scaling(summary, curves, cost, label)
    if any(line.hacking for line in summary.lines):
        found["over-optimization"] = _hacking(summary)
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


def _curves(summary: Summary) -> dict[str, list[Line]]:
    """Return lines by curve: one per family, or one per variant if several variants have the same budget."""
    found: dict[str, list[Line]] = {}
    for family, lines in _families(summary).items():
        budgets = [line.budget for line in lines if line.budget is not None]
        for line in lines:
            found.setdefault(line.label if len(budgets) > len(set(budgets)) else family, []).append(line)
    return found


def _scores(summary: Summary) -> bytes:
    figure, axes = _figure(height=max(2.0, 0.8 + 0.32 * len(summary.lines)))
    for place, line in enumerate(summary.lines):
        value = _measure(summary, line)
        error = [[value.estimate - value.low], [value.high - value.estimate]]
        axes.errorbar(value.estimate, place, xerr=error, fmt="o", color=_color(summary, line.family), capsize=3)
    labels = [drawable(f"{line.label}  {budget_text(line.budget)}".rstrip()) for line in summary.lines]
    axes.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(f"{_name(summary)} (95% interval)", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    return png(figure)


def _scaling(summary: Summary, curves: dict[str, list[Line]], cost: str, label: str) -> bytes:
    figure, axes = _figure()
    predicted = [p["nfe"] for points in summary.predictions.values() for p in points if not p["extrapolated"]]
    costs = [line.cost[cost] or 0.0 for line in summary.lines] + (predicted if cost == "nfe" else [])
    axes.set_xscale("log")
    axes.set_xlim(0.85 * min([value for value in costs if value > 0] or [1.0]), (max(costs) or 1.0) / 0.85)
    for place, (name, lines) in enumerate(curves.items()):
        points = sorted(
            ((line.cost[cost] or 0.0, _measure(summary, line)) for line in lines), key=lambda point: point[0]
        )
        x = [point[0] for point in points]
        low = [value.low for _, value in points]
        high = [value.high for _, value in points]
        color = f"C{place % 10}"
        axes.plot(x, [value.estimate for _, value in points], "o-", color=color, label=_plain(name))
        axes.vlines(x, low, high, color=color, alpha=0.5, lw=1)  # a band does not show a single point
        axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    if cost == "nfe":
        what = "judge" if summary.success is None else "success"
        told: str | None = "best-of-n, predicted from\nindependent samples"
        for points_ in summary.predictions.values():
            known = [p for p in points_ if not p["extrapolated"]]
            axes.plot([p["nfe"] for p in known], [p[what] for p in known], ":", color="#888888", lw=1, label=told)
            told = None  # one entry in the legend
    _plain_ticks(axes.xaxis)
    axes.set_xlabel(label)
    axes.set_ylabel(_name(summary), parse_math=False)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    return png(figure)


def _hacking(summary: Summary) -> bytes:
    figure, axes = _figure()
    for place, (name, lines) in enumerate(_curves(summary).items()):
        known = [line.hacking for line in lines if line.hacking]
        x, y = [gain["reward"] for gain in known], [gain["judge"] for gain in known]
        # the points are too close together for labels: the legend names them, and larger budgets have larger points
        sizes = [24 + 48 * rank / len(x) for rank in range(len(x))]
        axes.plot(x, y, "-", color=f"C{place % 10}", lw=1, alpha=0.5)
        axes.scatter(x, y, s=sizes, color=f"C{place % 10}", label=_plain(name))
    top = max(max(line.hacking.values()) for line in summary.lines if line.hacking)
    axes.plot([0, top], [0, top], "--", color="#aaaaaa", lw=1)
    axes.set_xlabel("gain of the steered reward, sd")
    axes.set_ylabel(f"gain of {summary.judge}, sd", parse_math=False)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    return png(figure)


def _figure(height: float = 4.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _color(summary: Summary, family: str) -> str:
    return f"C{list(_families(summary)).index(family) % 10}"


def _plain_ticks(axis: Any) -> None:
    """Write the ticks of a logarithmic axis as plain numbers, several even if it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _plain(text: str) -> str:
    """Return text that matplotlib takes as it is: a dollar sign begins a formula, an underscore hides a label."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
