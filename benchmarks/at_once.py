"""Commands started at once under one parent folder: every one that is not refused is whole, in a folder of its own.

    python benchmarks/at_once.py [--rounds 20] [--commands 8] [--seed 0] [--json]

Each round starts generate, render, compare and score as processes, some without ``--out``, some with the same one.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

PROMPTS = 5
"""Prompts per comparison, which takes no fewer; and images to score."""

COMMANDS = ("generate", "render", "compare", "score", "generate", "render", "generate --out", "render --out")
"""Those that begin a round; the others are drawn from :data:`MORE`. With ``--out``, all of a kind name the same."""

MORE = (*COMMANDS, "compare --out", "score --out")


@dataclass(frozen=True)
class Started:
    """One command of a round: its words say what it draws, so that its files can be told from those of others."""

    number: int
    kind: str
    shared: bool

    @property
    def words(self) -> list[str]:
        """The prompts that only this command has."""
        return [f"a red circle {self.number} {part}" for part in "abcde"[: PROMPTS if self.kind == "compare" else 2]]

    def arguments(self, place: Path) -> list[object]:
        """Return the command line, after writing the files that it reads."""
        prompts = place / f"prompts-{self.number}.txt"
        prompts.write_text("".join(f"{line}\n" for line in self.words))
        cheap: list[object] = ["--steps", "2", "--size", "64x64"]
        out: list[object] = ["--out", self.out] if self.shared or self.kind == "score" else []
        if self.kind == "score":
            return ["score", "images", "-r", "shapes", "--prompt", self.words[0], *out]
        if self.kind == "compare":
            methods = [
                "--method",
                "plain",
                "--method",
                "best-of-n",
                "-n",
                "2",
                "-r",
                "shapes",
                "--judge",
                "shapes-count",
            ]
            return ["compare", prompts.name, *methods, *cheap, *out]
        return [self.kind, *(["-f"] if self.kind == "generate" else []), prompts.name, *cheap, *out]

    @property
    def out(self) -> str:
        """Where it is told to write."""
        name = "shared" if self.shared else str(self.number)
        return f"outputs/{self.kind}-{name}" + (".jsonl" if self.kind == "score" else "")


def started_in(number: int, commands: int, rng: random.Random) -> list[Started]:
    """Return the commands of a round."""
    names = [*COMMANDS[:commands], *rng.choices(MORE, k=max(0, commands - len(COMMANDS)))]
    kinds = [(name.split()[0], "--out" in name) for name in names]
    return [Started(number * 100 + place, kind, shared) for place, (kind, shared) in enumerate(kinds)]


def round_of(number: int, commands: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Start a round's commands; return how many ended how, and what is wrong with what they left."""
    from support import processes

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        for name in range(PROMPTS):
            Image.new("RGB", (64, 64), (40 * name, 0, 0)).save(place / "images" / f"{name}.png")
        started = started_in(number, commands, rng)
        lines = [each.arguments(place) for each in started]
        running = [processes.start(line, place, f"{n}.out", f"{n}.err") for n, line in enumerate(lines)]
        outcomes, faults = Counter[str](), list[str]()
        whole: list[Started] = []
        for n, (each, child) in enumerate(zip(started, running, strict=True)):
            child.join(300)
            said = (place / f"{n}.err").read_text()
            if child.exitcode == 0:
                whole.append(each)
            elif child.exitcode != 2 or "steer: error: " not in said or "Traceback" in said:
                faults.append(f"{each} ended with {child.exitcode}: {said[-300:]}")
                child.kill()
            outcomes["done" if child.exitcode == 0 else "refused"] += 1
        return outcomes, faults + list(wrong(place / "outputs", whole))


def wrong(parent: Path, whole: Iterable[Started]) -> Iterable[str]:
    """Yield what is wrong below a parent folder in which commands ended well."""
    taken: dict[Path, Started] = {}
    for each in whole:
        if each.kind == "score":
            rows = [json.loads(line) for line in (parent / Path(each.out).name).read_text().splitlines()]
            mine = {row["file"] for row in rows if row["prompt"] == each.words[0]}
            if len(mine) != PROMPTS:
                yield f"{each}: {len(mine)} of {PROMPTS} images have a line"
            continue
        found = [folder for folder in parent.iterdir() if folder.is_dir() and each.words[0] in words_in(folder)]
        if len(found) != 1:
            yield f"{each}: its prompts are in {len(found)} folders"
            continue
        others = words_in(found[0]) - set(each.words)
        if others:
            yield f"{each}: its folder has others' prompts: {sorted(others)}"
        if found[0] in taken:
            yield f"{each} and {taken[found[0]]} share a folder"
        taken[found[0]] = each
        yield from (f"{each}: {fault}" for fault in damaged(found[0], each))
    for folder in (path for path in parent.iterdir() if path.is_dir() and path not in taken):
        files = [path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
        if files:
            yield f"{folder.name}: left by a command that was refused: {files[:5]}"


def words_in(folder: Path) -> set[str]:
    """Return the prompts that any file of a run names."""
    found: set[str] = set()
    result = folder / "result.json"
    if result.is_file():
        found |= {item["prompt"] for item in json.loads(result.read_text())["items"]}
    logs = [folder / "prompts.jsonl", folder / "journal.jsonl", *folder.glob("cells/*.jsonl")]
    for log in filter(Path.is_file, logs):
        found |= {json.loads(line)["prompt"] for line in log.read_text().splitlines()}
    for picture in (*folder.glob("*.png"), *folder.glob("images/*.png")):
        with Image.open(io.BytesIO(picture.read_bytes())) as image:
            if "steer" in image.info:
                found.add(json.loads(image.info["steer"])["prompt"]["text"])
    return found


def damaged(folder: Path, each: Started) -> Iterable[str]:
    """Yield which files of a run are damaged or missing."""
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                for line in path.read_text().splitlines():
                    json.loads(line)
            elif path.suffix == ".toml":
                tomllib.loads(path.read_text())
            elif path.suffix == ".part":
                yield f"{path.name} is left"
        except (OSError, ValueError) as error:
            yield f"{path.relative_to(folder)}: {error}"
    if each.kind == "generate":
        items = json.loads((folder / "result.json").read_text())["items"]
        files = [file for item in items for file in item["files"]]
    elif each.kind == "render":
        rows = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        files = [file for row in rows if row["status"] == "done" for file in row["files"]]
        files += ["index.html", "metadata.jsonl", "run.toml"]
        if sum(name.endswith(".png") for name in files) != len(each.words):
            yield f"the journal has {len(files) - 3} images"
    else:
        files = ["report.html", "report.md", "summary.json"]
        for cells in folder.glob("cells/*.jsonl"):
            if len(cells.read_text().splitlines()) != PROMPTS:
                yield f"{cells.name} is not complete"
    yield from (f"{name} is missing" for name in files if not (folder / name).is_file())


def run(rounds: int, commands: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Run rounds; return how many commands ended how, and all faults."""
    rng, outcomes, faults = random.Random(seed), Counter[str](), list[str]()
    with click.progressbar(range(rounds), label="rounds", file=sys.stderr) as bar:
        for number in bar:
            ended, wrong_here = round_of(number, commands, rng)
            outcomes += ended
            faults += [f"round {number}: {fault}" for fault in wrong_here]
    return outcomes, faults


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--commands", type=click.IntRange(1), default=8, show_default=True, help="Commands at once.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of which commands take part.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(rounds: int, commands: int, seed: int, as_json: bool) -> None:
    """Start commands at once, several times; the exit code is 1 if something is wrong with what they leave."""
    begun = time.monotonic()
    outcomes, faults = run(rounds, commands, seed)
    seconds = round(time.monotonic() - begun)
    if as_json:
        click.echo(json.dumps({"rounds": rounds, "seconds": seconds, **outcomes, "faults": faults}, indent=1))
    else:
        click.echo(
            f"{rounds} rounds of {commands}: {outcomes['done']} done, {outcomes['refused']} refused; {seconds} s"
        )
        for fault in faults:
            click.echo(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
