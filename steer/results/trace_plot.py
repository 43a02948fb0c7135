"""The plot of a trace: the particles' genealogy, rewards and ESS by step."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from steer.results.genealogy import Line, lines_of
from steer.results.lettering import fit_fonts
from steer.results.search_plot import draw_search, shorten

LIVING, DEAD = "#1f77b4", "#cfcfcf"
BEND = 0.35
"""Share of the steps between resamplings that the curve from a parent to its copy takes."""


def plot(trace: dict[str, Any]) -> bytes:
    """Draw a trace as a PNG: the particles' genealogy colored by reward, and rewards and ESS by step.

    A search gets a plot of its candidates instead (:mod:`steer.results.search_plot`).
    """
    from matplotlib.figure import Figure

    if any(event["kind"] == "candidate" for event in trace["events"]):
        return png(draw_search(trace))

    lines = lines_of(trace)
    particles = len({line.slot for line in lines})
    height = 2.0 + min(8.0, max(1.6, 0.26 * particles))
    figure = Figure(figsize=(9, height + 2.4), layout="constrained")
    tree, curve = figure.subplots(2, 1, sharex=True, height_ratios=[height, 2.6])
    figure.suptitle(shorten(trace["prompt"]), parse_math=False, fontsize=11)
    _draw_genealogy(tree, lines, trace["events"])
    _draw_rewards(curve, trace["events"], particles)
    return png(figure)


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = BytesIO()
    fit_fonts(figure)
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_genealogy(axes: Any, lines: Sequence[Line], events: Sequence[dict[str, Any]]) -> None:
    """Draw every particle as a line; a line that is resampled away ends, and copies branch off their parent."""
    from matplotlib.ticker import MaxNLocator

    slots = sorted({line.slot for line in lines})
    for line in lines:
        x, y = _branch(line)
        axes.plot(x, y, color=LIVING if line.lives else DEAD, lw=1.8 if line.lives else 0.9, zorder=1 + line.lives)
    rewards = [e for e in events if e["kind"] == "reward"]
    if rewards:
        values, size = [v for e in rewards for v in e["reward"]], max(10.0, min(42.0, 500.0 / len(slots)))
        scale = {"cmap": "viridis", "vmin": min(values), "vmax": max(values)}
        style = {"zorder": 3, "s": size, "edgecolors": "white", "linewidths": 0.6}
        for event in rewards:
            at = [event["step"]] * len(event["slots"])
            points = axes.scatter(at, event["slots"], c=event["reward"], **scale, **style)
        axes.figure.colorbar(points, ax=axes, label="reward", pad=0.02, fraction=0.05)
    axes.set_ylabel("particle")
    axes.set_title("genealogy (blue: has descendants at the end; gray: has none)", fontsize=9, loc="left")
    axes.set_ylim(slots[-1] + 0.5, slots[0] - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _branch(line: Line) -> tuple[list[float], list[float]]:
    """Return a particle's line over a stretch of steps: a bend from its parent's row to its own, then straight."""
    start, stop, child = line.start, line.stop, line.slot
    parent = child if line.parent is None else line.parent.slot
    if parent == child:
        return [start, stop], [child, child]
    bend = BEND * (stop - start)
    ease = [i / 20 for i in range(21)]
    x = [start + bend * t for t in ease]
    y = [parent + (child - parent) * (3 * t**2 - 2 * t**3) for t in ease]
    return [*x, stop], [*y, child]


def _draw_rewards(axes: Any, events: Sequence[dict[str, Any]], particles: int) -> None:
    from matplotlib.ticker import MaxNLocator

    rewards = [e for e in events if e["kind"] == "reward"]
    if rewards:
        steps = [e["step"] for e in rewards]
        axes.plot(steps, [sum(e["reward"]) / len(e["reward"]) for e in rewards], "o-", label="mean reward")
        axes.plot(steps, [max(e["reward"]) for e in rewards], "^--", label="best reward")
    weighed = [e for e in events if "ess" in e]
    if weighed:
        other = axes.twinx()
        other.plot([e["step"] for e in weighed], [e["ess"] for e in weighed], "s:", color="#d62728", label="ESS")
        other.set_ylabel("ESS")
        other.set_ylim(0, 1.05 * particles)
        other.spines["top"].set_visible(False)
    axes.set_xlabel("denoising steps done")
    axes.set_ylabel("reward")
    axes.spines["top"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [*axes.lines, *(other.lines if weighed else [])]
    if handles:  # above the curves, which it would hide
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False)
