"""Traces: the events of one prompt's particles, step by step, as plain data."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from steer.sampling.events import Event
from steer.sampling.state import State

SCHEMA = 1


def trace_of(state: State, job: int) -> dict[str, Any]:
    """Return the trace of one prompt.

    Returns:
        ``{"schema", "prompt", "seed", "particles", "steps", "log_z", "biased", "unique_ancestors", "events"}``;
        every event has ``kind``, ``step``, ``timestep``, ``draw`` (number of the search's population, from 0) and its
        data: a list with one value per particle (in the order of ``slots``), or a single value for the prompt.
    """
    rows = state.rows_of(job)
    weights = state.log_weight[rows]
    log_z = None
    if not state.biased and len(rows):
        log_z = float(torch.logsumexp(weights, dim=0)) - math.log(len(rows))
    return {
        "schema": SCHEMA,
        "prompt": str(state.jobs[job].prompt),
        "id": state.jobs[job].prompt.id,
        "seed": state.jobs[job].seed,
        "particles": len(rows),
        "steps": state.steps,
        "log_z": log_z,
        "biased": state.biased,
        "unique_ancestors": len(set(state.ancestors[rows].tolist())),
        "events": event_rows(state.events, job),
    }


def event_rows(events: Iterable[Event], job: int) -> list[dict[str, Any]]:
    """Return what events say of one prompt, as they stand in its trace."""
    rows = []
    for event in events:
        mine = [i for i, j in enumerate(event.jobs) if j == job]
        if not mine:  # a search had finished this prompt
            continue
        row: dict[str, Any] = {"kind": event.kind, "step": event.step, "timestep": event.timestep, "draw": event.draw}
        row["slots"] = [event.slots[i] for i in mine]
        for name, values in event.data.items():
            row[name] = [values[i] for i in mine] if event.by_row else values[job]
        rows.append(row)
    return rows
