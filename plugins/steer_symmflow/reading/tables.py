"""Rows for people and for programs: a table, JSON or CSV on stdout."""

from collections.abc import Mapping, Sequence
from typing import Any

from steer import SteerError
from steer.plugin import one_line, put_csv, put_json, stdout, table

WRITTEN = frozenset({"mask", "overlay", "confidence-map"})
"""Keys with paths of files, which do not fit in a table."""


def check_format(as_json: bool, as_csv: bool) -> None:
    """Raise if both are set."""
    if as_json and as_csv:
        raise SteerError("got both --json and --csv; give one of the two")


def print_rows(
    rows: Sequence[dict[str, Any]], errors: Sequence[str], *, as_json: bool, as_csv: bool, extra: Mapping[str, Any]
) -> None:
    """Print rows with equal keys as JSON, as CSV, or as a table with rounded numbers.

    Args:
        extra: figures of all rows, by name: values with their limits and other numbers.
    """
    if as_json:
        put_json({"rows": rows, "errors": list(errors), **extra})
        return
    if as_csv:
        flat = [_flat(row) for row in rows]
        put_csv([list(flat[0]) if flat else [], *(row.values() for row in flat)])
        return
    if not rows:
        return
    columns = [key for key in rows[0] if key not in WRITTEN]
    stdout().print(table(columns, ([_cell(row[column]) for column in columns] for row in rows)))
    for name, figure in extra.items():
        limits = f" [{figure['low']:.4f}, {figure['high']:.4f}]" if "low" in figure else ""
        each = ", ".join(f"{label} {value:.3f}" for label, value in figure.get("labels", {}).items())
        stdout().print(one_line(f"{name} {figure['value']:.4f}{limits} ({figure['images']} images) {each}".rstrip()))


def _cell(value: Any) -> str:
    """Format a value for the table; shares below half a percent are left out, the largest comes first."""
    if isinstance(value, dict):
        shown = sorted(((part, name) for name, part in value.items() if part >= 0.005), reverse=True)
        return one_line(", ".join(f"{name} {part:.0%}" for part, name in shown))
    return f"{value:.3f}" if isinstance(value, float) else one_line(str(value))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Flatten a row: the shares become one column per label."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        out |= {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
    return out
