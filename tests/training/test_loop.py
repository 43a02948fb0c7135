"""The training loop: resumable to the last bit, interruptible, and clear about what it refuses."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from steer import SteerError
from steer.registry.local_files import load_module
from steer.training import (
    Display,
    Draw,
    Part,
    RunFolder,
    Task,
    TrainingOptions,
    TrainingRecipe,
    Update,
    Watch,
    adamw,
    fit,
    read_checkpoint,
    start,
    training_options,
    warmup_cosine,
)

RECIPE = TrainingRecipe(steps=60, batch=8, rate=0.1, seed=3)
WATCH = Watch(save_every=20, sheet_every=30, log_every=7)


class Line(Task):
    """Linear regression with dropout, and an opponent that is trained twice per step and against it."""

    name = "line"

    def __init__(self, recipe: TrainingRecipe = RECIPE) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.line = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.1))
        self.offset = nn.Sequential(nn.Linear(1, 1, bias=False))
        self.parts = {
            "line": Part(self.line, adamw(self.line, recipe.rate, matrices_only=True, bits=recipe.adam_bits)),
            "offset": Part(self.offset, adamw(self.offset, recipe.rate, bits=recipe.adam_bits), averaged=False),
        }

    def updates(self, step: int) -> Iterator[Update]:
        rate = warmup_cosine(step, steps=self.recipe.steps, warmup=5, peak=self.recipe.rate)
        yield Update("line", rate, lambda part: self.losses(Draw(self.recipe.seed, "line", step, part), 1))
        for index in range(2):
            yield Update("offset", rate, lambda part, i=index: self.losses(Draw(step, f"offset{i}", part), -1))

    def losses(self, draw: Draw, sign: int) -> dict[str, Tensor]:
        x = torch.from_numpy(draw.rng.normal(size=(self.recipe.batch, 3))).float()
        y = x.sum(1, keepdim=True) + 0.1 * draw.normal(len(x), 1)
        error = (self.line(x) + 0.01 * self.offset(torch.ones(1)) - y).square().mean()
        return {"loss": sign * error, "error": error}

    def sheet(self, path: Path) -> dict[str, float]:
        return {"weight": float(self.parts["line"].average["0.weight"].mean())}


class Said(Display):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def __exit__(self, *_: object) -> None: ...


def train(task: Task, out: Path, *, resume: bool = False, said: Said | None = None) -> Path:
    run = RunFolder(out, resume=resume)
    machine = start("no", "cpu")
    run.begin(task.name, task.recipe, data="drawn")
    fit(task, task.recipe, run, machine, watch=WATCH, display=said or Said())
    return out


def rows(out: Path) -> list[dict[str, float]]:
    logged = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in logged]


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, dict):
        return [tensor for name in sorted(value, key=str) for tensor in tensors(value[name])]
    return [value] if isinstance(value, Tensor) else []


def assert_equal_runs(one: Path, two: Path) -> None:
    first, second = (tensors(read_checkpoint(out / "checkpoint.pt")) for out in (one, two))
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert rows(one) == rows(two)


class Interruption(Exception):  # noqa: N818
    pass


class Interrupting(Line):
    """Calls ``then`` once, in step 47."""

    then: Callable[[], None]

    def losses(self, draw: Draw, sign: int) -> dict[str, Tensor]:
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 3 * 47:
            self.then()
        return super().losses(draw, sign)


def fail() -> None:
    raise Interruption


@pytest.mark.slow  # trains twice
def test_a_killed_run_resumes_to_the_weights_and_the_log_of_an_unbroken_one(tmp_path: Path) -> None:
    whole = train(Line(), tmp_path / "whole")
    killed = Interrupting()
    killed.then = fail
    with pytest.raises(Interruption):
        train(killed, tmp_path / "parts")
    parts = tmp_path / "parts"
    assert read_checkpoint(parts / "checkpoint.pt")["step"] == 40
    with (parts / "log.jsonl").open("a") as file:
        file.write('{"step": 45, "lo')
    train(Line(), parts, resume=True)
    assert_equal_runs(whole, parts)
    assert [path.name for path in parts.glob(".*")] == []
    logged = rows(whole)
    assert logged[-1]["step"] == 60 and abs(logged[-1]["weight"] - 1) < 0.3
    assert {"line_rate", "line_gradient", "offset_loss", "error"} <= logged[0].keys()


@pytest.mark.slow
def test_ctrl_c_ends_a_run_after_the_step_with_a_checkpoint(tmp_path: Path) -> None:
    interrupted, said = Interrupting(), Said()
    interrupted.then = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, tmp_path / "parts", said=said)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["step"] == 47
    assert said.lines[-1] == "stopped after step 47 of 60; resume with --resume"
    train(Line(), tmp_path / "parts", resume=True)
    assert_equal_runs(train(Line(), tmp_path / "whole"), tmp_path / "parts")


@pytest.mark.slow
def test_a_run_is_resumed_by_its_own_recipe_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="holds no run; leave --resume out"):
        train(Line(), tmp_path, resume=True)
    train(Line(), tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    kept = checkpoint.read_bytes()
    with pytest.raises(SteerError, match="holds a run already; resume it with --resume"):
        train(Line(), tmp_path)
    other = TrainingRecipe(steps=60, batch=8, rate=0.1, seed=4)
    with pytest.raises(SteerError, match="has seed=3, now it is 4"):
        train(Line(other), tmp_path, resume=True)
    with pytest.raises(SteerError, match=r"has taken 60 steps already, of 50 .* give --steps 60 or more"):
        train(Line(TrainingRecipe(steps=50, batch=8, rate=0.1, seed=3)), tmp_path, resume=True)
    assert checkpoint.read_bytes() == kept
    longer = Line(TrainingRecipe(steps=61, batch=8, rate=0.1, seed=3))
    longer.parts["offset"] = longer.parts["line"]
    with pytest.raises(SteerError, match=r"cannot resume from checkpoint .*other weights"):
        train(longer, tmp_path, resume=True)
    for content in (kept[:1000], b"", b"not a checkpoint"):
        checkpoint.write_bytes(content)
        with pytest.raises(SteerError, match=r"cannot resume from checkpoint .*delete it to start over"):
            train(Line(TrainingRecipe(steps=60, batch=8, rate=0.1, seed=3)), tmp_path, resume=True)
    checkpoint.unlink()
    train(Line(), tmp_path, resume=True)
    assert read_checkpoint(checkpoint)["step"] == 60


def test_a_run_of_an_older_steer_is_refused_in_one_line(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"unet": {}, "optimizer": {}, "average": {}, "step": 3, "seconds": 1.0}, checkpoint)
    for resume in (False, True):
        with pytest.raises(SteerError, match="holds a run of an older steer, which this one cannot resume"):
            train(Line(), tmp_path, resume=resume)
    (tmp_path / "recipe.json").write_text('{"teacher": "shapes"}')
    with pytest.raises(SteerError, match="holds a run of an older steer"):
        train(Line(), tmp_path, resume=True)


class Exploding(Line):
    def losses(self, draw: Draw, sign: int) -> dict[str, Tensor]:
        return {"loss": super().losses(draw, sign)["loss"] * float("inf")}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="the loss of step 0 is not finite: the training has diverged"):
        train(Exploding(), tmp_path)


def test_a_frozen_parameter_is_neither_trained_nor_kept() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[0].weight.requires_grad_(False)
    part = Part(module, adamw(module, 0.1))
    assert "0.weight" not in part.state()["weights"] and "1.running_mean" in part.state()["weights"]


@pytest.mark.slow
def test_the_documented_training_trains_and_resumes(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "training.md"
    (tmp_path / "my_training.py").write_text(page.read_text().split("```python\n")[1].split("```")[0])
    command = load_module(str(tmp_path / "my_training.py")).command
    arguments = ["--out", str(tmp_path / "run"), "--device", "cpu", "--steps"]
    for more in (["50"], ["100", "--resume"]):
        assert CliRunner().invoke(command, [*arguments, *more], catch_exceptions=False).exit_code == 0
    assert torch.allclose(torch.load(tmp_path / "run" / "line.pt")["weight"], torch.ones(3), atol=0.2)


def test_the_command_gets_the_shared_options_as_one_value() -> None:
    @click.command
    @click.option("--width", type=int, default=2)
    @training_options(out="runs/x", steps=5, own="the stage's own")
    def command(given: TrainingOptions, width: int) -> None:
        click.echo(f"{given.recipe} {given.watch} {given.out} {width}")

    text = CliRunner().invoke(command, ["--seed", "4", "--log-every", "3"]).output
    watch = Watch(save_every=250, sheet_every=500, log_every=3)
    assert text == f"{{'steps': 5, 'accumulate': 1, 'adam_bits': 32, 'seed': 4}} {watch} runs/x 2\n"
    assert "[default: the stage's own]" in CliRunner().invoke(command, ["--help"]).output
    refused = CliRunner().invoke(command, ["--rate", "nan"])
    assert isinstance(refused.exception, SteerError)
    assert "--rate nan: expected a number above 0" in str(refused.exception)


def test_an_average_takes_the_place_of_the_weights_and_gives_it_back() -> None:
    module = nn.Linear(2, 2)
    part = Part(module, adamw(module, 0.1), average_on=torch.device("cpu"))
    first = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    last = module.weight.detach().clone()
    with part.averaged():
        assert torch.equal(module.weight, first)
    assert torch.equal(module.weight, last)


def test_gradients_are_averaged_in_buckets_of_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from steer.training import machine

    monkeypatch.setattr(machine, "BUCKET", 40)
    gradients = [torch.zeros(4), torch.zeros(5), torch.zeros(2), torch.zeros(2).half(), torch.zeros(90)]
    buckets = [[gradient.numel() for gradient in bucket] for bucket in machine._buckets(gradients)]
    assert buckets == [[4, 5], [2], [2], [90]]


@pytest.mark.slow
def test_eight_bits_train_as_well(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    recipe = dataclasses.replace(RECIPE, adam_bits=8)
    whole = train(Line(recipe), tmp_path / "whole")
    assert rows(whole)[-2]["line_loss"] < 0.5 * rows(whole)[0]["line_loss"]
    states = read_checkpoint(whole / "checkpoint.pt")["parts"]["line"]["optimizer"]["state"]
    assert all(state["step"] == 60 for state in states.values())


def test_a_run_from_before_a_setting_was_there_resumes(tmp_path: Path) -> None:
    train(Line(dataclasses.replace(RECIPE, steps=3)), tmp_path)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    del recipe["adam_bits"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    train(Line(dataclasses.replace(RECIPE, steps=5)), tmp_path, resume=True)
    with pytest.raises(SteerError, match="has adam_bits=32, now it is 8"):
        RunFolder(tmp_path, resume=True).check("line", dataclasses.replace(RECIPE, adam_bits=8), data="drawn")
