"""Everything that has to be seen on a CUDA device, in parts that resume; no network is needed.

    python benchmarks/gpu.py [--out outputs/gpu] [--minutes 9] [--part NAME …] [--fk-repo PATH] [--smoke] [--json]

Each part runs in a process of its own, so that one that runs out of memory or crashes takes nothing else with it. Its
rows are kept in a folder of ``--out`` that is named after the machine. The command ends before ``--minutes`` are over;
run it again to resume: what is missing comes first, then what failed. In the end all rows are printed as tables, which
are also in ``report.md`` of that folder. The exit code is 1 if a part failed or found what it should not.
Models have full size and random weights (:mod:`families`): time, memory and agreement do not depend on what they show.
What the device has no memory for is left out and said. ``--smoke`` shrinks everything and computes on the CPU, to try
the script.

parity     every family at a tiny size, in fp32, bf16 and fp16, beside its stock pipeline
predictions, memory   peaks of decoding and of gradients by the noise: by the model of memory, and measured
overhead   wall time of a steered run over that of its bare forwards
replay     CARINOX twice, and from its recipe, to the bit
oom        a chunk halved by too little memory gives what its recipe gives again
loading    SDXL from a folder: whole, with encoders that leave the device, quantized
offload    every kind of offload: seconds, peak, same images
peers      our FK beside the published one (with --fk-repo)
tests-…    the suite's tests of devices and offloading on this machine's own; of sampling, models, rewards on its CPU
speed-…    images per second: plain, FK of 4 and 8, with a preview decoder, channels last, compiled
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from gpu_parts import HERE, PARTS, Machine, Row

from steer.settings.strict_json import json_text

LIMIT = 510.0
"""Seconds that one part may take: fewer than nine minutes, so that the first part of a run has them all."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("outputs/gpu"), show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="The command ends before they are over.")
@click.option("--part", "names", multiple=True, help="Repeatable; all by default.")
@click.option("--fk-repo", type=click.Path(path_type=Path, exists=True), help="Checkout of the published FK.")
@click.option("--again", is_flag=True, help="Measure parts anew that are there.")
@click.option("--smoke", is_flag=True, help="Tiny sizes on the CPU, to try the script.")
@click.option("--rows", type=click.Path(path_type=Path), hidden=True, help="Run one part, and write its rows there.")
@click.option("--json", "as_json", is_flag=True, help="Print all rows as JSON instead of tables.")
def main(
    out: Path,
    minutes: float,
    names: tuple[str, ...],
    fk_repo: Path | None,
    again: bool,
    smoke: bool,
    rows: Path | None,
    as_json: bool,
) -> None:
    """Run the parts that are missing, and print what all of them found."""
    if unknown := [name for name in names if name not in PARTS]:
        raise click.UsageError(f"unknown part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    if not smoke and rows is None and not torch.cuda.is_available():
        raise click.UsageError("torch sees no CUDA device; give --smoke to try the script on the CPU")
    if rows is not None:
        with rows.open("w", encoding="utf-8") as file:
            for row in PARTS[names[0]](Machine(smoke, out, fk_repo)):
                file.write(json_text(row) + "\n")
                file.flush()
        return
    facts = machine_facts(smoke)
    folder = out / re.sub(r"\W+", "-", f"{facts['device']} torch {facts['torch']}").lower()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    known = {} if again else found_in(folder)
    for name in in_order(names or tuple(PARTS), known):
        left = minutes * 60 - (time.monotonic() - began)
        found, done = part_rows(name, folder, min(left, LIMIT), smoke, fk_repo)
        if not done and left < LIMIT:
            click.echo(f"{name} and later parts are left for another run", err=True)
            break
        found += [] if done else [{"failed": f"not done after {LIMIT:.0f} s", "ok": False}]
        (folder / f"{name}.json").write_text(json_text({"machine": facts, "rows": found}) + "\n")
        click.echo(f"{name}: {'good' if good(found) else 'NOT GOOD'}", err=True)
    known = found_in(folder)
    report = report_of(facts, {name: known[name] for name in PARTS if name in known})
    (folder / "report.md").write_text(report, encoding="utf-8")
    click.echo(json_text({"machine": facts, "parts": known}) + "\n" if as_json else report, nl=False)
    sys.exit(0 if all(map(good, known.values())) else 1)


def machine_facts(smoke: bool) -> dict[str, Any]:
    """Return what figures depend on: the device, its driver, and the versions of what computed."""
    device = f"cpu {platform.machine()}, tiny sizes"
    facts: dict[str, Any] = {}
    if not smoke:
        device = torch.cuda.get_device_name()
        properties = torch.cuda.get_device_properties(0)
        facts = {
            "driver": driver(), "memory_gb": round(properties.total_memory / 1e9, 1), "cuda": torch.version.cuda,
            "capability": f"{properties.major}.{properties.minor}", "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return {
        "device": device, **facts, "torch": torch.__version__,
        **{name: version(name) for name in ("diffusers", "transformers")},
        "python": platform.python_version(), "cores": os.cpu_count(), "commit": commit(),
    }  # fmt: skip


def driver() -> str | None:
    """Return the version of NVIDIA's driver, if there is one."""
    with suppress(OSError):
        said = Path("/proc/driver/nvidia/version").read_text()
        return found[0] if (found := re.search(r"\d+\.\d+(\.\d+)?", said)) else None
    return None


def commit() -> str | None:
    """Return what is checked out, if git can tell."""
    with suppress(OSError):  # there may be no git
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
        return done.stdout.strip() or None
    return None


def found_in(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of every part that has ended."""
    files = (folder / f"{name}.json" for name in PARTS)
    return {file.stem: json.loads(file.read_text())["rows"] for file in files if file.is_file()}


def good(rows: Iterable[Row]) -> bool:
    """Whether a part ended, and found what it should."""
    return all(row.get("ok", True) and "failed" not in row for row in rows)


def in_order(names: Sequence[str], known: Mapping[str, list[Row]]) -> list[str]:
    """Return the parts that are left to run: those that were never tried, then those that failed."""
    return [name for name in names if name not in known] + [
        name for name in names if name in known and not good(known[name])
    ]


def part_rows(name: str, folder: Path, seconds: float, smoke: bool, repo: Path | None) -> tuple[list[Row], bool]:
    """Run a part in a process of its own; return its rows, and whether it ended in time."""
    rows = folder / f"{name}.rows"
    rows.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "gpu.py"), "--part", name, "--rows", str(rows), "--out", str(folder)]
    command += ["--smoke"] if smoke else []
    command += [] if repo is None else ["--fk-repo", str(repo)]
    # a pretended device takes the place of a real one
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if name == "predictions" else {}
    path = os.pathsep.join([str(HERE.parent / "tests"), str(HERE), *filter(None, sys.path)])
    start = time.monotonic()
    code = ended(command, {**os.environ, **OFFLINE, **hidden, "PYTHONPATH": path}, folder / f"{name}.log", seconds)
    lines = rows.read_text("utf-8").splitlines(keepends=True) if rows.is_file() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half written
    rows.unlink(missing_ok=True)
    if code:
        said = (folder / f"{name}.log").read_text("utf-8", errors="replace").strip().splitlines()
        found.append({"failed": (said or [f"code {code}"])[-1][:300], "ok": False})
    return [*found, {"part_seconds": time.monotonic() - start}], code is not None


def ended(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float) -> int | None:
    """Run a command and return its code; if it takes too long, end it with all that it has begun, and return ``None``.

    Args:
        log: a file for what it prints.
    """
    with log.open("wb") as file:
        child = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        try:
            return child.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def report_of(facts: Mapping[str, Any], parts: Mapping[str, list[Row]]) -> str:
    """Return all rows as tables in Markdown."""
    lines = ["# " + ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)]
    for name, rows in parts.items():
        seconds = next((row["part_seconds"] for row in rows if "part_seconds" in row), None)
        took = "" if seconds is None else f" ({seconds:.0f} s)"
        lines += ["", f"## {name}{took}: {'good' if good(rows) else 'NOT GOOD'}", ""]
        lines += table([row for row in rows if "part_seconds" not in row])
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """Return rows as a table: a column for every name that one of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[shown(row[name]) if name in row else "" for name in columns] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells)] if columns else []


def shown(value: Any) -> str:
    """Return a value as text for a table."""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


if __name__ == "__main__":
    # as from the keyboard: a part is in a session of its own, and would go on
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    main()
