"""Damaged run files, folders, recipes and arguments, given to the commands that read them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from damage import OUTSIDE, damaged_file, damaged_text, picture
from dry_commands import Command, Place, contents, dry
from PIL import Image

PROMPTS = b"""{"prompt": "a red circle", "id": "r1", "category": "color", "seed": 7}
{"prompt": "a blue square", "steps": 5, "options": {"fk": {"lambda": 4}}}
"""

CONFIG = b"""model = "shapes"
prompts = ["a red circle", "a blue square"]
plugin = ["fk"]
reward = ["./rewards.py:bright", "./rewards.py:zero@0..1:0.5"]
judge = ["shapes"]
steps = 4
guidance = 3.5
particles = 2
size = "64x64"
seed = 3
run_seed = 1
choose = "all"
dtype = "fp32"
device = "cpu"
scheduler = "ddim"
negative = "a square"
baseline = false

[options.fk]
lambda = 5.0
at = "1,2"
"""

A1111 = "a red circle\nNegative prompt: a square\nSteps: 4, Sampler: Euler a, CFG scale: 7.5, Seed: 8, Size: 64x64"

BRIGHT = ["-r", "./rewards.py:bright"]


@dataclass(frozen=True)
class Scenario:
    """A command of which one or two of the given files are damaged."""

    command: Command
    damage: Sequence[str]

    def damaged(self, rng: random.Random) -> Command:
        """Return it with its files damaged."""
        files = dict(self.command.files)
        for name in rng.sample(self.damage, min(len(self.damage), rng.choice((1, 1, 1, 2)))):
            files[name] = damaged_file(name, files[name], rng)
        if rng.random() < 0.02:  # what is there, is there by another way
            name = rng.choice(self.damage)
            del files[name]
            links = {name: rng.choice((OUTSIDE, Path(name).name, "..", "gone"))}
            through = (str(Path(name).parent / "gone"),)  # what is written there, its owner asked for
            return replace(self.command, files=files, links=links, writes=(*self.command.writes, *through))
        return replace(self.command, files=files)


@dataclass(frozen=True)
class Run:
    """A command at a place; see :class:`dry_commands.Command`."""

    place: Place
    command: Command

    def check(self) -> str:
        """Run it; return how it ended."""
        return self.place.run(self.command)

    def keep(self, folder: Path) -> None:
        """Write it down."""
        self.command.keep(folder)


Cases = AbstractContextManager[Callable[[random.Random], Run]]


def _folder_of(place: Place, *arguments: str, files: dict[str, bytes] | None = None, out: str) -> dict[str, bytes]:
    """Return the files that a command wrote, below ``out``."""
    command = Command([*arguments, "--out", out], files or {}, (f"{out}/",))
    _take(place, command)
    found = {f"{out}/{name}": data for name, data in contents(place.work / out).items()}
    return {name: data for name, data in found.items() if "/.lock" not in name}


def _take(place: Place, command: Command) -> None:
    """Run a command of which nothing is damaged."""
    assert place.run(command) == "accepted", f"{' '.join(command.arguments)}: {place.messages}"


def _scenarios(place: Place, *, recipes: bool) -> list[Scenario]:
    files = {"p.jsonl": PROMPTS}
    steered = ["-p", "fk", *BRIGHT, "-n", "2", "--steps", "4"]
    made = _folder_of(place, "generate", "a red circle", "a blue square", *steered, "--choose", "all", out="made")
    text = _folder_of(place, "generate", "a town", "a dog", "-m", "text:shapes", "--steps", "4", out="text")
    run = _folder_of(place, "render", "p.jsonl", *steered, files=files, out="run")
    texts = _folder_of(place, "render", "t.txt", "-m", "text:shapes", files={"t.txt": b"a\nb\n"}, out="texts")
    pictures = [name for name in made if name.endswith(".png") and name.count("/") == 1 and "sheet" not in name]
    lines = [name for name in text if name.endswith(".txt")]
    rendered = [name for name in texts if name.endswith(".txt")]
    found: list[Scenario] = []

    def add(arguments: Sequence[str], present: dict[str, bytes], damage: Sequence[str], *writes: str) -> None:
        found.append(Scenario(Command(arguments, present, writes), damage))

    if recipes:
        again = ["--out", "again", "--json", "--allow-files", "--device", "cpu"]
        for options in (again, [*again[:2], "--allow-files"]):
            add(["replay", pictures[0], *options], {pictures[0]: made[pictures[0]]}, pictures[:1], "again/")
        add(["replay", lines[0], *again], text, ["text/result.json", lines[0]], "again/")
        logs = ["texts/journal.jsonl", "texts/details.jsonl"]
        add(["replay", rendered[0], *again], texts, logs, "again/")
        add(["gallery", "made", "--json"], made, ["made/result.json"], "made/")
        add(["gallery", "."], {**made, **texts}, ["made/result.json", *logs], "index.html", "page/")
        foreign = picture(Image.new("RGB", (16, 16)), {"parameters": A1111})
        images = {"i/a.png": foreign, "i/b.png": made[pictures[0]], "i/c.png": made[pictures[1]]}
        listed = b'{"file_name": "a.png", "prompt": "a circle", "id": 3}\n{"file_name": "b.png", "text": "b"}\n'
        for form in ([], ["--json"], ["--csv"]):
            add(["score", "i", *BRIGHT, *form], images, list(images))
            add(["score", "i", *BRIGHT, *form], {**images, "i/metadata.jsonl": listed}, ["i/metadata.jsonl"])
        return found
    state = ["run/run.toml", "run/prompts.jsonl", "run/journal.jsonl", "run/details.jsonl"]
    add(["render", "--config", "run/run.toml"], run, state[:1], "run/")
    add(["render", "--config", "run/run.toml", "--json"], run, state, "run/")
    add(["render", "--config", "run/run.toml", "--dry-run"], run, state, "run/")
    add(["render", "p.jsonl", *steered, "--out", "run", "--retry-failed"], {**run, **files}, state, "run/")
    add(["gallery", "run"], run, state[2:], "run/")
    config = {"c.toml": CONFIG}
    for options in ([], ["--json"]):
        add(["generate", "--config", "c.toml", "--out", "out", *options], config, ["c.toml"], "out/")
    rest = CONFIG.replace(b"prompts = [", b"file = [").replace(b'"a red circle", "a blue square"', b'"p.jsonl"')
    rest = rest.replace(b"baseline = false", b'replicates = 2\npreviews = 0\nlayout = "images"')
    add(["render", "--config", "c.toml", "--out", "out"], {"c.toml": rest, **files}, ["c.toml", "p.jsonl"], "out/")
    add(["generate", "a", "--out", "out"], {"steer.toml": b'model = "shapes"\n'}, ["steer.toml"], "out/")
    compared = [*["--method", "plain", "--method", "fk:particles=2|4"], *BRIGHT, "--judge", "./rewards.py:zero"]
    many = b"".join(b'{"prompt": "a red circle %d", "category": "c"}\n' % number for number in range(10))
    compared = ["compare", "many.jsonl", *compared, "--budget", "nfe=20", "--success", "0.5"]
    whole = _folder_of(place, *compared, files={"many.jsonl": many}, out="cmp")
    cells = [name for name in whole if name.startswith("cmp/cells/")]
    asked = ["cmp/compare.json", "cmp/fits.json", *cells]
    add([*compared, "--out", "cmp"], {**whole, "many.jsonl": many}, asked, "cmp/")
    images = {f"i/{number}.png": picture(Image.new("RGB", (8 + number, 8)), {}) for number in range(3)}
    scoring = ["score", "i", *BRIGHT, "--prompt", "a", "--out", "s.jsonl"]
    _take(place, Command(scoring, images, ("s.jsonl",)))
    kept = {"s.jsonl": (place.work / "s.jsonl").read_bytes()}
    add(scoring, {**images, **kept}, ["s.jsonl"], "s.jsonl")
    return found


@contextmanager
def _damaged(*, recipes: bool) -> Iterator[Callable[[random.Random], Run]]:
    with dry() as place:
        scenarios = _scenarios(place, recipes=recipes)
        for scenario in scenarios:  # whole, they are taken; and what is loaded once is loaded
            _take(place, scenario.command)
        yield lambda rng: Run(place, rng.choice(scenarios).damaged(rng))


def runs() -> Cases:
    """Give what damages run files, configurations and the files of folders that commands go on in."""
    return _damaged(recipes=False)


def recipes() -> Cases:
    """Give what damages recipes and prompts, in images and beside texts."""
    return _damaged(recipes=True)


EXPRESSIONS = [
    "shapes",
    "shapes:1+./rewards.py:bright:0.5",
    "min(./rewards.py:bright@0..1,shapes@z0.5,0.2):2+./rewards.py:zero",
    "./rewards.py:bright@0.1..0.9:1e-3",
    "shapes@z0,1:-0.5+./rewards.py:zero@z",
]
OPTIONS = ["fk.lambda=4", "fk.at=1,2", "fk.potential=max", "fk.resample=none", "best-of-n.rounds=2", "x.fk.lambda=3"]
METHODS = ["plain", "fk", "a=fk:lambda=2|5", "fk+best-of-n:fk.lambda=3,steps=4", "best-of-n:n=2,guidance=2"]
FLAGS = [
    *("--size=64x64", "--steps=4", "--guidance=3.5", "--eta=1", "--scheduler=euler-a", "--seed=3", "-n=2", "--chunk=1"),
    *("--lora=a/b:0.5", "--vae-memory=tiling", "--preview=taesd", "--dtype=fp32", "--device=cpu", "--choose=weighted"),
    *("--negative=a", "--offload=none", "--attention=native", "--judge=shapes", "-m=shapes", "--true-cfg=2"),
]


@contextmanager
def expressions() -> Iterator[Callable[[random.Random], Run]]:
    """Give what damages rewards, options, methods and settings as they are typed."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64)).save(image, "PNG")
    files = {"p.jsonl": PROMPTS, "i.png": image.getvalue()}

    def command(rng: random.Random, damage: Callable[[str], str]) -> Command:
        def flag(name: str, choices: Sequence[str], least: int, most: int) -> list[str]:
            picked = rng.sample(choices, rng.randint(least, most))
            return [part for value in picked for part in (name, damage(value))]

        kind = rng.randrange(4)
        if kind == 0:
            words = ["compare", "p.jsonl", *flag("--method", METHODS, 1, 3), *BRIGHT, "--judge", "shapes"]
            words += [*flag("--budget", ["nfe=80,240", "seconds=2"], 0, 1), *flag("-o", OPTIONS, 0, 1), "--out", "out"]
            return Command(words, files, ("out/",))
        if kind == 1:
            return Command(["score", "i.png", "--prompt", "a red circle", *flag("-r", EXPRESSIONS, 1, 2)], files)
        words = ["generate", "a", "--steps", "4", "--out", "out", *flag("-r", EXPRESSIONS, 1, 2), "-p", damage("fk")]
        words += flag("-o", OPTIONS, 0, 2)
        for name in rng.sample(FLAGS, rng.choice((0, 0, 1, 2))):
            key, _, value = name.partition("=")
            words += [key, damage(value)]
        return Command(words, files, ("out/",))

    def case(rng: random.Random) -> Run:
        return Run(place, command(rng, lambda text: damaged_text(text, rng) if rng.random() < 0.2 else text))

    with dry() as place:
        rng = random.Random(0)
        for _ in range(30):  # what is loaded once is loaded
            place.run(command(rng, str))
        yield case
