"""Traces: what happened to the particles of one prompt, step by step, as plain data and as a picture."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from typing import Any

import torch

from steer.state import State

SCHEMA = 1


def log_mean_exp(values: torch.Tensor) -> torch.Tensor:
    """Return log(mean(exp(values))) of a vector, stable for any size of the values."""
    return torch.logsumexp(values, dim=0) - torch.log(torch.tensor(float(len(values)), dtype=values.dtype))


def trace_of(state: State, job: int) -> dict[str, Any]:
    """Return the trace of one prompt.

    Returns:
        ``{"schema", "prompt", "seed", "particles", "steps", "log_z", "biased", "unique_ancestors", "events"}``;
        every event has ``kind``, ``step``, ``timestep`` and its data: a list with one value a particle (in the
        order of ``slots``), or a single value for the prompt.
    """
    rows = state.rows_of(job)
    weights = state.log_weight[rows]
    events: list[dict[str, Any]] = []
    for event in state.events:
        mine = [i for i, j in enumerate(event.jobs) if j == job]
        row: dict[str, Any] = {"kind": event.kind, "step": event.step, "timestep": event.timestep}
        row["slots"] = [event.slots[i] for i in mine]
        for name, values in event.data.items():
            per_row = event.kind in ("reward", "resample")
            row[name] = [values[i] for i in mine] if per_row else values[job]
        events.append(row)
    return {
        "schema": SCHEMA,
        "prompt": str(state.jobs[job].prompt),
        "id": state.jobs[job].prompt.id,
        "seed": state.jobs[job].seed,
        "particles": len(rows),
        "steps": state.steps,
        "log_z": None if state.biased else float(log_mean_exp(weights)),
        "biased": state.biased,
        "unique_ancestors": len(set(state.ancestors[rows].tolist())),
        "events": events,
    }


def plot(trace: dict[str, Any]) -> bytes:
    """Draw a trace as a PNG: the particles' genealogy coloured by reward, and rewards and ESS by step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    tree, curve = figure.subplots(2, 1, sharex=True)
    figure.suptitle(_shorten(trace["prompt"]), parse_math=False)
    _draw_genealogy(tree, trace)
    _draw_rewards(curve, trace)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_genealogy(axes: Any, trace: dict[str, Any]) -> None:
    steps, count = trace["steps"], trace["particles"]
    resamplings = [e for e in trace["events"] if e["kind"] == "resample"]
    edges = [0, *(e["step"] for e in resamplings), steps]
    alive = _survivors(resamplings, count)
    for segment, (start, stop) in enumerate(pairwise(edges)):
        for slot in range(count):
            lives = slot in alive[segment]
            axes.plot([start, stop], [slot, slot], color="#1f77b4" if lives else "#cccccc", lw=2 if lives else 1)
        if segment < len(resamplings):
            for child, parent in enumerate(resamplings[segment]["ancestors"]):
                if child != parent:
                    lives = child in alive[segment + 1]
                    axes.plot([stop, stop], [parent, child], color="#1f77b4" if lives else "#cccccc", lw=1)
    rewards = [e for e in trace["events"] if e["kind"] == "reward"]
    values = [v for e in rewards for v in e["reward"]]
    for event in rewards:
        points = axes.scatter(
            [event["step"]] * len(event["slots"]), event["slots"], c=event["reward"], cmap="viridis",
            vmin=min(values), vmax=max(values), zorder=3, s=36,
        )  # fmt: skip
    if rewards:
        axes.figure.colorbar(points, ax=axes, label="reward")
    axes.set_ylabel("particle")
    axes.set_title("genealogy (blue: survives to the end)", fontsize=9)
    axes.set_ylim(count - 0.5, -0.5)


def _survivors(resamplings: list[dict[str, Any]], count: int) -> list[set[int]]:
    """Return, for each stretch between resamplings, the slots whose content reaches the end."""
    alive = [set(range(count))]
    for event in reversed(resamplings):
        alive.insert(0, {event["ancestors"][slot] for slot in alive[0]})
    return alive


def _draw_rewards(axes: Any, trace: dict[str, Any]) -> None:
    rewards = [e for e in trace["events"] if e["kind"] == "reward"]
    if rewards:
        steps = [e["step"] for e in rewards]
        axes.plot(steps, [sum(e["reward"]) / len(e["reward"]) for e in rewards], "o-", label="mean reward")
        axes.plot(steps, [max(e["reward"]) for e in rewards], "^--", label="best reward")
    weighed = [e for e in trace["events"] if "ess" in e]
    if weighed:
        other = axes.twinx()
        other.plot([e["step"] for e in weighed], [e["ess"] for e in weighed], "s:", color="#d62728", label="ESS")
        other.set_ylabel("ESS")
        other.set_ylim(0, trace["particles"] * 1.05)
        other.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("denoising steps done")
    axes.set_ylabel("reward")
    if rewards:
        axes.legend(loc="upper left", fontsize=8)


def _shorten(text: str, width: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
