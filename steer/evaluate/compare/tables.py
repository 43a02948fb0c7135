"""A summary of a comparison as tables."""

from collections.abc import Callable, Sequence

from steer.evaluate.compare.summary import Against, Line, Summary, budget_text
from steer.evaluate.statistics import Interval
from steer.evaluate.tables import Table, level

Column = tuple[str, Callable[[Line], str]]


def tables(summary: Summary) -> list[Table]:
    """Return the tables of a summary; empty ones are left out."""
    found = [scores(summary), differences(summary), cost(summary), diversity(summary), categories(summary)]
    return [table for table in found if table is not None]


def scores(summary: Summary) -> Table:
    """Each method's results by the judge."""
    passed = "" if summary.success is None else f"{summary.judge} >= {summary.success:g}"

    def judged(name: str) -> Column:
        return name, lambda line: level(line.judges[name])

    columns = [
        *_where(summary),
        (f"{summary.judge}, chosen", lambda line: level(line.chosen)),
        *_when(passed, (passed, lambda line: _or_empty(line.success))),
        (f"{summary.judge}, particles", lambda line: level(line.particles)),
        *_when(passed, (f"{passed}, particles", lambda line: _or_empty(line.population))),
        *map(judged, list(summary.lines[0].judges)[1:]),
    ]
    note = "Means over prompts with 95% intervals (bootstrap over prompts; Wilson's for the share of successes)."
    return _table("Scores", columns, summary.lines, note)


def differences(summary: Summary) -> Table | None:
    """Each method against the reference, paired over prompts."""
    lines = [line for line in summary.lines if line.against is not None]
    if not lines:
        return None

    def held(name: str, told: Callable[[Against], str]) -> Column:
        return name, lambda line: "" if line.against is None else told(line.against)

    columns = [
        *_where(summary),
        held("chosen", lambda against: str(against.chosen)),
        *_when(
            summary.success is not None,
            held("success", lambda against: str(against.success)),
            held("success, particles", lambda against: str(against.population)),
            held("failures left", lambda against: _or_empty(against.failures, 2)),
        ),
        held("wins", lambda against: level(against.wins, 2)),
    ]
    note = "Paired over prompts and seeds, at the same budget; a tie counts as half a win."
    if summary.success is not None:
        note += " Failures left: a method's failures over the reference's; empty if the reference has none."
    return _table(f"Differences to {summary.reference}", columns, lines, note)


def cost(summary: Summary) -> Table:
    """The cost per prompt."""

    def spent(title: str, name: str, digits: int) -> Column:
        return title, lambda line: _number(line.cost[name], digits)

    columns = [
        *_where(summary),
        spent("NFE", "nfe", 0),
        *_when(any(line.cost["backwards"] for line in summary.lines), spent("backward", "backwards", 0)),
        spent("decodes", "decodes", 1),
        spent("reward calls", "reward_calls", 1),
        spent("seconds", "seconds", 3),
        spent("peak MB", "memory_mb", 0),
    ]
    note = "Means per prompt; NFE are denoiser evaluations, guidance counted as two. Judging is not included."
    return _table("Cost", columns, summary.lines, note)


def diversity(summary: Summary) -> Table:
    """The steering reward, and the diversity of the population."""
    over_seeds = any(line.spread_replicates is not None for line in summary.lines)
    columns = [
        *_where(summary),
        ("steered reward", lambda line: _or_empty(line.reward)),
        ("reward gain, sd", lambda line: _number((line.hacking or {}).get("reward"), 2)),
        ("judge gain, sd", lambda line: _number((line.hacking or {}).get("judge"), 2)),
        ("false positives", lambda line: _number(line.false_positives, 2)),
        ("spread", lambda line: _number(line.spread, 3)),
        *_when(over_seeds, ("spread over seeds", lambda line: _number(line.spread_replicates, 3))),
        ("distinct ancestors", lambda line: _number(line.ancestors, 1)),
    ]
    note = (
        "Gains over unsteered samples in their sd within a prompt: a reward that gains more than the judge is being "
        "over-optimized. False positives: of the samples that the reward likes best, as many as the judge passes, the "
        "share that the judge rejects. Spread: mean CLIP distance between the particles kept."
    )
    return _table("Over-optimization and diversity", columns, summary.lines, note)


def categories(summary: Summary) -> Table | None:
    """The main measure by category."""
    names = list(dict.fromkeys(name for line in summary.lines for name in line.categories))
    if not names:
        return None
    what = "success" if summary.success is not None else "chosen"

    def cell(line: Line, name: str) -> str:
        found = line.categories.get(name)
        if found is None:
            return ""
        value = found[what]
        text = f"{value['estimate']:.2f}"
        return text if value["low"] is None else f"{text} [{value['low']:.2f}, {value['high']:.2f}]"

    def of(name: str) -> Column:
        return name, lambda line: cell(line, name)

    return _table(
        f"By category: {what}",
        [*_where(summary), *map(of, names)],
        summary.lines,
        "Without an interval if prompts are too few.",
    )


def _where(summary: Summary) -> list[Column]:
    columns: list[Column] = [("method", lambda line: line.label)]
    if any(line.budget for line in summary.lines):
        columns.insert(0, ("budget", lambda line: budget_text(line.budget)))
    return columns


def _when(shown: object, *columns: Column) -> tuple[Column, ...]:
    """Return columns if a condition holds."""
    return columns if shown else ()


def _table(title: str, columns: Sequence[Column], lines: Sequence[Line], note: str) -> Table:
    rows = tuple(tuple(text(line) for _, text in columns) for line in lines)
    return Table(title, tuple(head for head, _ in columns), rows, note)


def _or_empty(value: Interval | None, digits: int = 3) -> str:
    return "" if value is None else level(value, digits)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
