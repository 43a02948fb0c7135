"""Rendering: the gain of packing, memory over ten thousand prompts, the cost of the journal, kills, and the page.

    python benchmarks/render.py packing [--prompts 48] [--particles 1] [--repeats 3]
    python benchmarks/render.py families [--device cuda] [--smoke]
    python benchmarks/render.py memory [--prompts 10000]
    python benchmarks/render.py kills [--kills 25] [--engine ray]
    python benchmarks/render.py page [--images 10000]

``packing`` renders the same prompts packed and one prompt at a time in turn, in one process, images written. Wall and
processor time are reported: on a busy machine, only processor time is comparable on the CPU. ``families``
does the same at the size of SD 1.5 and SDXL with random weights. ``memory`` renders with a tiny random model.
``kills`` kills real processes at random moments and compares the final images, bit for bit, with an uninterrupted run.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
import psutil
import torch

from steer.prompts.prompt import Prompt
from steer.render import Renderer, Spec
from steer.render.local import LocalEngine
from steer.render.tally import Progress
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

COLORS = ("red", "blue", "green", "yellow", "purple", "cyan", "orange", "pink")
SHAPES = ("circle", "square", "triangle", "star", "cross")
REWARD = "def brightness(samples, prompts): return samples.mean(dim=(1, 2, 3))\n"


def prompts(count: int) -> list[Prompt]:
    """Return ``count`` prompts of the embedded grammar, with ids of their own."""
    return [
        Prompt(f"a {COLORS[n % 8]} {SHAPES[n // 8 % 5]} and a {COLORS[n // 40 % 8]} {SHAPES[n // 320 % 5]}", id=f"p{n}")
        for n in range(count)
    ]


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every image by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")}


@click.group()
def main() -> None:
    """Benchmarks of rendering."""


# ---- packing -------------------------------------------------------------------------------------------------


def timed_render(engine: LocalEngine, spec: Spec, rows: list[Prompt]) -> dict[str, float]:
    """Render into a fresh folder; return images per second by wall and by processor time."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        summary = Renderer(Path(folder) / "out", spec, lambda _: engine).render(rows)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert summary.progress.images == len(rows)
    return {"wall": len(rows) / wall, "cpu": len(rows) / cpu}


def compare_packing(spec: Spec, rows: list[Prompt], repeats: int) -> dict[str, Any]:
    """Render packed and one prompt at a time, in turn; one at a time at the chunk that suits it."""
    full = spec.request.having(chunk=8 if spec.request.device == "cpu" else 16)
    engines = {
        "packed": (LocalEngine(replace(spec, request=full)), spec),
        "one at a time": (LocalEngine(spec, pack_prompts=1), spec),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for engine, its_spec in engines.values():  # warm
        timed_render(engine, its_spec, rows[:2])
    for _ in range(repeats):
        for name, (engine, its_spec) in engines.items():
            runs[name].append(timed_render(engine, its_spec, rows))
    medians = {
        name: {clock: statistics.median(run[clock] for run in found) for clock in ("wall", "cpu")}
        for name, found in runs.items()
    }
    ratios = {clock: medians["packed"][clock] / medians["one at a time"][clock] for clock in ("wall", "cpu")}
    return {"images_per_second": medians, "ratio": ratios}


@main.command()
@click.option("--prompts", "count", default=48, show_default=True)
@click.option("--particles", default=1, show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def packing(count: int, particles: int, steps: int, repeats: int, device: str) -> None:
    """Packed against one prompt at a time on the embedded model."""
    settings = RunSettings(steps=steps, particles=particles)
    request = SamplingRequest("shapes", device=device, reward=("shapes",), settings=settings, choose="best")
    found = compare_packing(Spec(request), prompts(count), repeats)
    click.echo(json.dumps({"prompts": count, "particles": particles, "steps": steps, **found}, indent=1))


@main.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--family", "families", multiple=True, default=("sd15", "sdxl"))
@click.option("--particles", default=4, show_default=True)
@click.option("--steps", default=20, show_default=True)
@click.option("--prompts", "count", default=16, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--smoke", is_flag=True, help="Tiny models, to try the script.")
def families(
    device: str, families: tuple[str, ...], particles: int, steps: int, count: int, repeats: int, smoke: bool
) -> None:
    """Packed against one prompt at a time at full size, random weights, FK by brightness."""
    sys.path.append(str(Path(__file__).parent))
    from families import FAMILIES

    for name in families:
        with tempfile.TemporaryDirectory() as folder:
            FAMILIES[name](smoke).save_pretrained(folder)
            (Path(folder) / "rewards.py").write_text(REWARD)
            request = SamplingRequest(
                folder,
                device=device,
                methods=("fk",),
                reward=(f"{folder}/rewards.py:brightness",),
                settings=RunSettings(steps=steps, particles=particles),
                choose="best",
            )
            rows = [Prompt("a red circle", id=f"p{number}") for number in range(count)]
            found = compare_packing(Spec(request), rows, repeats)
        card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        click.echo(
            json.dumps({"family": name, "device": card, "particles": particles, "steps": steps, **found}, indent=1)
        )


# ---- memory and the journal ----------------------------------------------------------------------------------


class Memory:
    """Watches the process's memory during a render."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, [0.0]
        self.seen.clear()
        self.began = 0.0

    def begin(self, plan: Any, place: str) -> None:
        """Note the memory before."""
        self.began = time.perf_counter()
        self._note()

    def done(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Note the memory now and then."""
        if progress.done % self.every == 0:
            self._note()

    def failed(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Nothing fails here."""
        raise AssertionError(row)

    def stopping(self) -> None:
        """Nobody stops it."""

    def end(self, summary: Any) -> None:
        """Note the memory after."""
        self._note()

    def _note(self) -> None:
        self.seen.append(psutil.Process().memory_info().rss / 1e6)


@main.command()
@click.option("--prompts", "count", default=10_000, show_default=True)
def memory(count: int) -> None:
    """Memory while so many prompts are rendered by a tiny model, and what the journal costs a prompt."""
    from support.tiny import tiny_sd

    from steer.render.journal import Journal
    from steer.results.storage import LocalStorage

    rows = [Prompt("a red circle", id=f"p{number}", seed=number * 16) for number in range(count)]
    watcher = Memory(count // 10)
    with tempfile.TemporaryDirectory() as folder:
        settings = RunSettings(steps=1, particles=1, guidance_scale=1.0, chunk=16)
        spec = Spec(SamplingRequest(tiny_sd(), settings=settings))
        planned = time.process_time()
        renderer = Renderer(f"{folder}/out", spec, LocalEngine, watcher=watcher)
        renderer.plan(rows)
        planned = time.process_time() - planned
        summary = renderer.render(rows)
        out = Path(folder) / "out"
        row = json.loads((out / "journal.jsonl").read_text().splitlines()[0])
        storage = LocalStorage(Path(folder) / "again")
        journal, cpu, wall = Journal(storage), time.process_time(), time.perf_counter()
        for _ in range(count):
            journal.write(row)
        storage.close()
        cost = {"ms_cpu": (time.process_time() - cpu) / count * 1e3, "ms": (time.perf_counter() - wall) / count * 1e3}
        read = time.process_time()
        entries = len(Journal(LocalStorage(out)).entries())
        read = time.process_time() - read
        sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
    result = {
        "prompts": count, "done": summary.done, "rss_mb": [round(value) for value in watcher.seen],
        "plan_cpu_s": planned, "journal": {**cost, "bytes": sizes["journal.jsonl"] / count},
        "resume_reads": {"entries": entries, "cpu_s": read},
        "images_per_second": summary.progress.images / summary.seconds,
    }  # fmt: skip
    click.echo(json.dumps(result, indent=1))


# ---- kills ---------------------------------------------------------------------------------------------------


@main.command()
@click.option("--kills", "count", default=25, show_default=True)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--seed", default=0, show_default=True)
def kills(count: int, engine: str, seed: int) -> None:
    """Kill renders at random moments, with Ray the driver or a worker; then compare with an uninterrupted run."""
    from support import processes
    from support.tiny import tiny_sd

    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny_sd().save_pretrained(place / "tiny")
        (place / "rewards.py").write_text(REWARD)
        rows = [{"prompt": f"a red circle {n}", "id": f"p{n}", "steps": 1 + n % 40} for n in range(120)]
        (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        arguments = [
            "render", "prompts.jsonl", "-m", "tiny", "-p", "fk", "-r", "./rewards.py:brightness", "-n", "2", "--steps",
            "8", "--chunk", "4",
        ]  # fmt: skip
        more = ["--engine", "ray", "--workers", "2"] if engine == "ray" else []

        def start(out: str, extra: list[str]) -> BaseProcess:
            return processes.start([*arguments, "--out", out, *extra], place)

        _to_the_end(start("whole", []), place)
        journal = place / "out" / "journal.jsonl"
        hit = {"driver": 0, "worker": 0}
        while sum(hit.values()) < count:
            running = start("out", more)
            before = _lines(journal)
            worker = engine == "ray" and chance.random() < 0.6
            # while it loads, or when some more are done; a worker when it has done something
            until = before + chance.choice((1, 3, 8) if worker else (0, 1, 4, 10))
            while running.is_alive() and _lines(journal) < until:
                time.sleep(0.005)
            time.sleep(chance.random() * (1 if until == before else 0.3))
            if not running.is_alive():
                _to_the_end(running, place)
                shutil.rmtree(place / "out")  # it ended before the kill: continue with a fresh one
                continue
            workers = _workers(running.pid) if worker else []
            victim = chance.choice(workers) if workers else running.pid
            _kill(victim)
            hit["worker" if workers else "driver"] += 1
            if workers:  # it continues with another worker; later the driver is killed too, or it ends
                continue_until = time.monotonic() + 20 * chance.random()
                while running.is_alive() and time.monotonic() < continue_until:
                    time.sleep(0.05)
                if running.is_alive():
                    _kill(running.pid)
            running.join()
        _to_the_end(start("out", more), place)
        expected, found = digests(place / "whole"), digests(place / "out")
        done = [json.loads(line)["id"] for line in journal.read_text().splitlines()]
    result = {
        "engine": engine, "killed": hit, "images": len(found), "missing": len(set(expected) - set(found)),
        "bit_equal": found == expected, "done_twice": len(done) - len(set(done)),
    }  # fmt: skip
    click.echo(json.dumps(result, indent=1))
    sys.exit(0 if found == expected and result["done_twice"] == 0 else 1)


def _to_the_end(running: BaseProcess, place: Path) -> None:
    running.join()
    if running.exitcode:
        said = (place / "output.txt").read_text()[-2000:]
        raise click.ClickException(f"a render that was not killed ended with {running.exitcode}: {said}")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _workers(driver: int | None) -> list[int]:
    try:
        children = psutil.Process(driver).children(recursive=True)
        return [child.pid for child in children if "ray::Worker" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _kill(process: int | None) -> None:
    assert process
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


# ---- the page ------------------------------------------------------------------------------------------------


@main.command()
@click.option("--images", "count", default=10_000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def page(count: int, repeats: int) -> None:
    """Seconds to build the page of so many images, and to open it in headless Chromium; filtering and sorting."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from support.pages import FLAGS, write_run

    from steer.render.page import build_page
    from steer.results.storage import LocalStorage

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "out"
        write_run(root, count)
        built = time.process_time()
        build_page(LocalStorage(root))
        built = time.process_time() - built
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for flag in (*FLAGS, f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            opened, worked, searched, ordered = [], [], [], []
            for _ in range(repeats):
                browser.get("about:blank")

                def ready() -> None:
                    browser.get((root / "index.html").as_uri())
                    while not browser.execute_script("return document.documentElement.dataset.ready"):
                        time.sleep(0.005)

                before = _cpu_below(browser.service.process.pid)
                opened.append(_clocked(ready))
                worked.append(_cpu_below(browser.service.process.pid) - before)
                clock = "const t = performance.now(); {}; refresh(); return performance.now() - t"
                searched.append(browser.execute_script(clock.format("state.query = '77 red'")) / 1e3)
                ordered.append(browser.execute_script(clock.format("state.query = ''; state.sort = 'best'")) / 1e3)
        finally:
            browser.quit()
    result = {
        "images": count, "build_cpu_s": round(built, 2), "open_s": _median(opened), "open_cpu_s": _median(worked),
        "search_s": _median(searched), "sort_s": _median(ordered),
    }  # fmt: skip
    click.echo(json.dumps(result, indent=1))


def _cpu_below(process: int) -> float:
    """Processor seconds of a process's children so far: on a shared machine they say more than the clock."""
    total = 0.0
    for child in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return total


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _clocked(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
