"""The training loop: resumable to the last bit, and folding statistics changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from steer import SteerError
from steer_shapes.train import autoencoder
from steer_shapes.train.cli import command
from steer_shapes.train.loop import Recipe, load_average, train


def build() -> nn.ModuleDict:
    return nn.ModuleDict({"line": nn.Linear(3, 1)})


class Line:
    """Linear regression on data that is drawn afresh at every step."""

    name = "line"

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.modules = build()

    def loss(self, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        x = torch.from_numpy(rng.normal(size=(8, 3))).float()
        y = x.sum(1, keepdim=True) + 0.1 * torch.randn(8, 1, generator=noise)
        return {"loss": (self.modules["line"](x) - y).square().mean()}

    def sheet(self, modules: nn.ModuleDict, path: Path) -> dict[str, float]:
        return {"weight": float(modules["line"].weight.detach().mean())}


RECIPE = Recipe(steps=60, rate=0.1, warmup=5, save_every=20, sheet_every=30)


def run(recipe: Recipe, out: Path, *, resume: bool) -> dict[str, Tensor]:
    checkpoint = train(Line(), recipe, out, seed=3, resume=resume, make_copy=build)
    return load_average(checkpoint, build()).state_dict()


class Interruption(Exception):  # noqa: N818
    pass


class Interrupting(Line):
    """Stops in the middle, after a checkpoint and some steps beyond it."""

    calls = 0

    def loss(self, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls > 47:
            raise Interruption
        return super().loss(rng, noise)


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = run(RECIPE, tmp_path / "whole", resume=False)
    with pytest.raises(Interruption):
        train(Interrupting(), RECIPE, tmp_path / "parts", seed=3, resume=False, make_copy=build)
    assert torch.load(tmp_path / "parts" / "line.pt", weights_only=True)["step"] == 40
    parts = run(RECIPE, tmp_path / "parts", resume=True)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert abs(float(whole["line.weight"].mean()) - 1) < 0.2
    assert [path.name for path in (tmp_path / "parts").glob(".*")] == []
    lines = [json.loads(x) for x in (tmp_path / "whole" / "line.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60 and "weight" in lines[-1]


def test_a_run_is_not_begun_anew_over_itself_nor_gone_on_with_by_another_seed(tmp_path: Path) -> None:
    run(RECIPE, tmp_path, resume=True)  # nothing there yet: it begins
    kept = (tmp_path / "line.pt").read_bytes()
    with pytest.raises(SteerError, match="holds a run already; go on with --resume"):
        run(RECIPE, tmp_path, resume=False)
    with pytest.raises(SteerError, match="has seed=3, now it is 4"):
        train(Line(), RECIPE, tmp_path, seed=4, resume=True, make_copy=build)
    assert (tmp_path / "line.pt").read_bytes() == kept
    (tmp_path / "detector.pt").touch()
    result = CliRunner().invoke(command, ["--out", str(tmp_path)])
    assert isinstance(result.exception, SteerError) and "holds a run already" in str(result.exception)


class Exploding(Line):
    def loss(self, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        return {"loss": super().loss(rng, noise)["loss"] * float("inf")}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="step 0"):
        train(Exploding(), RECIPE, tmp_path, seed=0, resume=False, make_copy=build)


def test_normalizing_latents_leaves_reconstructions_alone() -> None:
    torch.manual_seed(0)
    vae = autoencoder.build().eval()["vae"].requires_grad_(False)
    images = torch.rand(16, 3, 64, 64) * 2 - 1
    before = vae.decode(vae.encode(images).latent_dist.mean).sample
    spread = vae.encode(images).latent_dist.std
    autoencoder.normalize(vae, images)
    posterior = vae.encode(images).latent_dist
    assert torch.allclose(before, vae.decode(posterior.mean).sample, atol=1e-4)
    total = posterior.mean.var((0, 2, 3)) + posterior.var.mean((0, 2, 3))
    assert torch.allclose(total, torch.ones(4), atol=0.1)
    assert (posterior.std / spread).std((0, 2, 3)).max() < 1e-3


def test_command_asks_for_the_autoencoder_first(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--stage", "clip", "--out", str(tmp_path)])
    assert isinstance(result.exception, SteerError) and "--stage autoencoder" in str(result.exception)
    assert CliRunner().invoke(command, ["--stage", "painting"]).exit_code == 2
