"""The stages: folding statistics changes nothing, and a stage is refused where another is missing or was begun."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from steer import ModelOptions, Sampler, SteerError
from steer_shapes.train import autoencoder, stages, t2i, t2v
from steer_shapes.train.cli import command
from steer_shapes.train.export import export_pipeline


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


def message(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SteerError), result.output
    return str(result.exception)


def test_command_asks_for_the_autoencoder_first(tmp_path: Path) -> None:
    assert "--stage autoencoder" in message("--stage", "clip", "--out", tmp_path)
    assert not list(tmp_path.iterdir())
    assert CliRunner().invoke(command, ["--stage", "painting"]).exit_code == 2


def test_stages_resume_each_in_a_folder_of_its_own(tmp_path: Path) -> None:
    arguments = ["--stage", "detector", "--batch", 4, "--threads", 1, "--precision", "no", "--out", tmp_path]
    trained = CliRunner().invoke(command, [*map(str, arguments), "--steps", "1"], catch_exceptions=False)
    assert trained.exit_code == 0 and (tmp_path / "weights" / "detector" / "detector.safetensors").is_file()
    assert "holds a run already; resume it with --resume" in message(*arguments)
    assert "has seed=0, now it is 1" in message(*arguments, "--resume", "--seed", 1)
    (tmp_path / "clip.pt").touch()
    assert "holds a run of an older steer" in message("--out", tmp_path, "--resume")


@pytest.mark.slow
def test_a_preview_decoder_is_trained_and_used(tmp_path: Path) -> None:
    words = ["--stage", "preview", "--steps", 2, "--batch", 2, "--threads", 1, "--precision", "no", "--out", tmp_path]
    trained = CliRunner().invoke(command, [*map(str, words)], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    options = ModelOptions(preview=str(tmp_path / "weights" / "pipeline" / "preview"))
    sampler = Sampler("shapes", device="cpu", model_options=options)
    assert sampler.model.preview(torch.zeros(2, 4, 16, 16)).shape == (2, 3, 64, 64)
    vae = stages.load_autoencoder(tmp_path, 0, shipped=True)
    export_pipeline(vae, t2i.build(), tmp_path / "weights" / "pipeline")  # a later stage keeps it
    assert Sampler(tmp_path / "weights" / "pipeline", model_options=ModelOptions(preview="own")).model.preview


@pytest.mark.thorough  # 15 s
def test_a_video_model_is_trained_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t2v, "LANES", (34,))
    monkeypatch.setattr(t2v, "FIRST", {"small": (14,), "large": (14,)})
    monkeypatch.setattr(t2v, "SHEET", 2)
    monkeypatch.setattr(t2v, "IMAGE_STEPS", 1)  # one step on single frames, one on videos
    words = ["--stage", "t2v", "--steps", 2, "--batch", 2, "--threads", 1, "--precision", "no", "--out", tmp_path]
    trained = CliRunner().invoke(command, [*map(str, words)], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    made = Sampler(str(tmp_path / "weights" / "video"), device="cpu").generate("a red circle moving left", steps=2)
    assert made.videos[0].frames.shape == (9, 64, 64, 3)
