"""Checkpoints of the published layout, and training that starts from a Stable Diffusion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import UNet2DConditionModel
from PIL import Image
from support.hub_server import Hub, as_hub, serve
from support.tiny import tiny_sd

from steer import Prompt, SteerError
from steer.cli.app import app
from steer.training import Draw, start
from steer_symmflow import flow, infer
from steer_symmflow.convert import beta_of
from steer_symmflow.model import SymmFlowConfig, load
from steer_symmflow.reward import Agreement
from steer_symmflow.stable_diffusion import doubled, official, on_base, read_state
from steer_symmflow.train import latents
from steer_symmflow.train.data import Stored
from steer_symmflow.train.task import FlowTask, Recipe

LABELS = {"sky": [0, 0, 255], "sea": [0, 255, 0]}
CONFIG = SymmFlowConfig("masks", ("sky", "sea"), (16, 16), ((0, 0, 255), (0, 255, 0)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(base: Path) -> tuple[Path, UNet2DConditionModel]:
    """A file with the published names, and the network that it is of."""
    config = {name: value for name, value in tiny_sd().unet.config.items() if not name.startswith("_")}
    torch.manual_seed(1)
    unet = UNet2DConditionModel(**{**config, "in_channels": 8, "out_channels": 8}).eval()
    file = base.parent / "LatFM_coco_beta6.0.pt"
    torch.save({f"unet.{name}": value for name, value in unet.state_dict().items()}, file)
    return file, unet


@pytest.mark.slow
@torch.no_grad()
def test_a_published_checkpoint_gives_the_velocities_of_a_direct_computation(base, published, tmp_path: Path) -> None:
    file, unet = published
    pipe = tiny_sd()
    ids = pipe.tokenizer("", padding="max_length", max_length=pipe.tokenizer.model_max_length, return_tensors="pt")
    empty = pipe.text_encoder(ids.input_ids)[0]
    model = official(file, str(base), CONFIG)
    z = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (0.0, 0.25, 1.0):
        direct = unet(z, torch.full((2,), t), encoder_hidden_states=empty.expand(2, -1, -1)).sample
        assert torch.allclose(model(z, t), direct, atol=1e-5)  # kernels differ in the last bits
    assert not torch.allclose(model(z, 0.0), model(z, 1.0), atol=1e-3)  # t enters
    # two Euler steps by hand, through the folder that the command makes
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(LABELS))
    arguments = ["convert", "symmflow", str(file), "--base", str(base), "--vae", str(base / "vae"), "--labels",
                 str(labels), "--size", "16x16", "--dtype", "fp32", "--out", str(tmp_path / "model")]  # fmt: skip
    result = CliRunner().invoke(app, arguments, standalone_mode=False, catch_exceptions=False)
    assert result.exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    with pytest.raises(SteerError, match="of an earlier run; add --force to replace"):
        CliRunner().invoke(app, arguments, standalone_mode=False, catch_exceptions=False)
    assert {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()} == before
    forced = CliRunner().invoke(app, [*arguments, "--force"], standalone_mode=False, catch_exceptions=False)
    assert forced.exit_code == 0
    kept = load(tmp_path / "model")
    by_hand = z
    for t in (1.0, 0.5):
        by_hand = by_hand - 0.5 * unet(by_hand, torch.tensor(t), encoder_hidden_states=empty.expand(2, -1, -1)).sample
    assert torch.allclose(flow.integrate(kept, z, 1.0, 0.0, 2), by_hand, atol=1e-5)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.allclose(
        kept.encode(image), pipe.vae.encode(image).latent_dist.mean * pipe.vae.config.scaling_factor, atol=1e-6
    )


@pytest.mark.slow  # half precision is slow on a CPU
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_draw_read_and_reward(base, published, tmp_path: Path, dtype: torch.dtype) -> None:
    official(published[0], str(base), CONFIG).save(tmp_path / "model", torch.float32)
    whole, half = (load(tmp_path / "model", dtype=d) for d in (torch.float32, dtype))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, *half.half_shape, generator=torch.Generator().manual_seed(1))
    for read in (infer.semantic_half, infer.infer):
        exact, found = (read(model, images, noise, steps=3) for model in (whole, half))
        assert found.dtype == torch.float32
        assert float((found - exact).abs().mean()) < 0.03 * float(exact.abs().mean())
    labels = torch.randint(0, 2, (2, 16, 16), generator=torch.Generator().manual_seed(2))
    exact, found = (infer.draw(model, infer.half_of(model, labels), noise, steps=3) for model in (whole, half))
    assert float((found - exact).abs().mean()) < 0.03
    mask = Image.fromarray(np.array(CONFIG.colors, np.uint8)[labels[0].numpy()])
    mask.save(tmp_path / "mask.png")
    reward = Agreement(argument=str(tmp_path / "model"), dtype=dtype)
    image = images[:1].to(dtype).requires_grad_()
    score = reward(image, [Prompt("x", metadata={"mask": str(tmp_path / "mask.png")})])
    (gradient,) = torch.autograd.grad(score.sum(), image)
    assert 0 < float(score.detach()) < 1 and 0 < float(gradient.float().norm()) < 1e6


@pytest.mark.slow
@pytest.mark.parametrize("room", [latents.MOST_BYTES, 0])
def test_a_training_encodes_each_image_once_and_its_batches_are_the_same(base, room, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    data = Stored(
        "masks", CONFIG.labels, CONFIG.colors, rng.integers(0, 256, (11, 16, 16, 3), dtype=np.uint8),
        rng.integers(0, 2, (11, 16, 16)),
    )  # fmt: skip
    model = doubled(*on_base(str(base), CONFIG))
    monkeypatch.setattr(latents, "MOST_BYTES", room)
    task = FlowTask(model, data, Recipe(steps=6, batch=4), start("no", "cpu"))
    encoded, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda planes: (encoded.append(len(planes)), encode(planes))[1])
    kept = [task.batch(Draw(0, "symmflow", step, 0)) for step in range(3)]
    masks = 3 * 4
    assert sum(encoded) == (10 if room else 3 * 4) + masks  # one of 11 images is held out
    task._latents = None
    for step, parts in enumerate(kept):
        for ours, plain in zip(parts, task.batch(Draw(0, "symmflow", step, 0)), strict=True):
            assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.slow
def test_checkpoints_of_another_layout_are_refused(base, published, tmp_path: Path) -> None:
    file, unet = published
    state = torch.load(file, weights_only=True)
    other = tmp_path / "other.pt"
    torch.save({name.removeprefix("unet."): value for name, value in state.items()}, other)
    with pytest.raises(SteerError, match=r"expected only tensors named unet\.\*, got \d+ other names"):
        read_state(other)
    torch.save({**state, "unet.conv_in.weight": torch.zeros(1)}, other)
    with pytest.raises(SteerError, match=r"does not fit this symmflow model: .*1 of another shape: unet\.conv_in"):
        official(other, str(base), CONFIG)
    state.pop("unet.conv_in.weight")
    torch.save({"state_dict": state}, other)
    with pytest.raises(SteerError, match=r"1 missing: unet\.conv_in\.weight"):
        official(other, str(base), CONFIG)
    torch.save([unet], other)
    with pytest.raises(SteerError, match=r"cannot be read \(no pickle of tensors alone\)"):
        read_state(other)
    official(file, str(base), CONFIG).save(tmp_path / "model")
    (tmp_path / "model" / "vae" / "config.json").unlink()
    with pytest.raises(SteerError, match="vae/ cannot be read"):
        load(tmp_path / "model")
    with pytest.raises(SteerError, match="size 14x14 does not fit base"):
        on_base(str(base), SymmFlowConfig("masks", ("a", "b"), (14, 14), CONFIG.colors))


@pytest.mark.parametrize(
    ("name", "beta"),
    [("LatFM_coco_beta6.0.pt", 6.0), ("a/b/LatFM_celeba_beta10.pt", 10.0), ("CelebAMask.pt", 10.0), ("coco.pt", 6.0)],
)
def test_beta_is_what_a_checkpoints_name_says(name, beta) -> None:
    assert beta_of(name) == beta


def test_a_name_without_beta_asks_for_it() -> None:
    with pytest.raises(SteerError, match="tells no beta; give --beta"):
        beta_of("mine.pt")


@pytest.mark.slow
def test_of_a_base_on_the_hub_only_what_is_needed_is_fetched(base, published, tmp_path, monkeypatch) -> None:
    files = {str(file.relative_to(base)): file.read_bytes() for file in base.rglob("*") if file.is_file()}
    vae = {name.removeprefix("vae/"): data for name, data in files.items() if name.startswith("vae/")}
    with serve(Hub({"org/sd": files, "org/vae": vae})) as server, as_hub(server, tmp_path, monkeypatch):
        model = official(published[0], "org/sd", CONFIG, "org/vae")
        asked = [path for _, path, _ in server.requests]
    for part in ("org/sd/resolve/main/unet/diffusion", "org/sd/resolve/main/vae/diffusion"):
        assert not any(part in path for path in asked)
    expected = official(published[0], str(base), CONFIG)
    assert torch.equal(model.context, expected.context)
    assert all(torch.equal(a, b) for a, b in zip(model.vae.parameters(), expected.vae.parameters(), strict=True))


@pytest.mark.slow
@torch.no_grad()
def test_doubled_channels_begin_where_the_unet_was(base) -> None:
    model, unet = on_base(str(base), CONFIG)
    doubled(model, unet)
    half = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    own = unet(half, torch.tensor([0.5 * model.config.time_scale]), encoder_hidden_states=model.context).sample
    for out in flow.split(model(flow.join(half, half), 0.5)):
        assert torch.allclose(out, own, atol=1e-5)


@pytest.mark.training
@pytest.mark.parametrize("kind", ["masks", "classes"])
def test_training_starts_from_a_stable_diffusion_and_goes_on(base, tmp_path: Path, kind: str) -> None:
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for number in range(4):
        pixels = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        folder = data / "images" if kind == "masks" else data / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels.save(folder / f"{number}.png")
        if kind == "masks":
            (data / "masks").mkdir(exist_ok=True)
            mask = np.array(list(LABELS.values()), np.uint8)[rng.integers(0, 2, (16, 16))]
            Image.fromarray(mask).save(data / "masks" / f"{number}.png")
            (data / "labels.json").write_text(json.dumps(LABELS))

    def train(out: str, steps: int, *more: str) -> None:
        arguments = ["train", "symmflow", "--data", str(data), "--init", str(base), "--out", str(tmp_path / out),
                     "--batch", "2", "--precision", "no", "--steps", str(steps), *more]  # fmt: skip
        result = CliRunner().invoke(app, arguments, standalone_mode=False, catch_exceptions=False)
        assert result.exit_code == 0

    train("run", 2)
    model = load(tmp_path / "run" / "model")
    assert model.vae is not None and model.half_shape == (4, 8, 8)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"accuracy_1", "accuracy_5"} <= set(rows[-1])
    assert (tmp_path / "run" / "sheets" / "000002.png").is_file()
    if kind == "masks":
        with pytest.raises(SteerError, match="holds a run already; resume it with --resume"):
            train("run", 2)
        train("run", 3, "--resume")
        assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3
