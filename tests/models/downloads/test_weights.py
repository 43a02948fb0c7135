"""Fetching weights: from a hub on this machine, through connections that break off, into cache and folders."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hub_server import Hub, as_hub, serve

from steer import SteerError
from steer.models.device import DTYPES
from steer.models.downloads import fetching, hub, weights
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.registry.declarations import Repository, Weights
from steer.registry.plugins import manager

CONTENT = np.random.default_rng(0).bytes(300_000)
HPS = "HPS_v2.1_compressed.pt"


@pytest.fixture
def server() -> Iterator[Hub]:
    files = {"xswu/HPSv2": {HPS: CONTENT, "README.md": b"# hps"}}
    with serve(Hub(files)) as running:
        yield running


@pytest.fixture
def online(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server as this process's hub, with an empty cache."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with as_hub(server, tmp_path / "cache", monkeypatch):
        yield server


WANTED = Weights("xswu/HPSv2", HPS, size=300_000)


def test_a_file_is_fetched_into_the_cache_once_and_found_there(online: Hub) -> None:
    told: list[tuple[str, int, int | None]] = []
    token = fetching.observer.set(lambda *note: told.append(note))
    path = weights.locate(WANTED, owner="hps")
    fetching.observer.reset(token)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (f"xswu/HPSv2: {HPS}", 300_000, 300_000)
    online.requests.clear()
    assert weights.cached(WANTED) == weights.locate(WANTED, owner="hps") == path
    assert online.requests == []


def test_the_hubs_own_client_finds_what_was_fetched(online: Hub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    path = weights.fetch(WANTED)
    assert try_to_load_from_cache("xswu/HPSv2", HPS, cache_dir=tmp_path / "cache") == str(path)
    (repo,) = scan_cache_dir(tmp_path / "cache").repos
    assert (repo.repo_id, repo.size_on_disk) == ("xswu/HPSv2", 300_000)


def test_a_download_that_broke_off_goes_on_where_it_was(online: Hub) -> None:
    # the client tries again by itself; after a few breaks without a byte it gives up
    online.cut = [100_000, *[0] * 20]
    with pytest.raises(SteerError, match=r"broke off after 0\.1 of 0\.3 MB .*resumes it"):
        weights.fetch(WANTED)
    assert weights.cached(WANTED) is None
    online.cut.clear()
    online.requests.clear()
    assert weights.fetch(WANTED).read_bytes() == CONTENT
    assert online.ranges() == ["bytes=100000-"]


def test_a_damaged_file_is_deleted_and_said_so(online: Hub, tmp_path: Path) -> None:
    online.spoil = True
    with pytest.raises(SteerError, match=r"arrived damaged \(its sha256 is not [0-9a-f]{64}\) and was deleted"):
        weights.fetch(WANTED)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.suffix != ".lock"] == []
    online.spoil = False
    assert weights.fetch(WANTED).read_bytes() == CONTENT


def test_another_file_than_the_plugin_states_is_refused(online: Hub) -> None:
    with pytest.raises(SteerError, match="not the published file"):
        weights.fetch(Weights("xswu/HPSv2", HPS, sha256="0" * 64))
    assert weights.cached(WANTED) is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Weights("xswu/HPSv2", "no.pt"), "xswu/HPSv2: no.pt cannot be fetched: the repository has no such file"),
        (Weights("xswu/no", HPS), "there is no such repository, or it is private"),
        (Repository("xswu/no"), "there is no such repository, or it is private"),
        (Repository("xswu/HPSv2"), "no file that transformers or diffusers reads"),
    ],
)
def test_what_the_hub_has_not_is_one_line(online: Hub, wanted: weights.Needed, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        weights.fetch(wanted)


def test_the_other_file_serves_where_the_first_is_not(online: Hub) -> None:
    wanted = Weights("xswu/HPSv2", "model.safetensors", otherwise=HPS)
    path = weights.fetch(wanted)
    assert path.name == HPS
    assert weights.cached(wanted) == path


def test_a_file_that_is_not_on_the_hub_is_fetched_from_where_it_is(online: Hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    wanted = Weights("their storage", HPS, url=f"{online.url}/xswu/HPSv2/resolve/main/{HPS}")
    online.cut = [100_000, *[0] * 20]
    with pytest.raises(SteerError, match=rf"their storage: {HPS} broke off after 0\.1 of 0\.3 MB"):
        weights.locate(wanted, owner="mine")
    online.cut.clear()
    path = weights.locate(wanted, owner="mine")
    assert path.read_bytes() == CONTENT
    assert online.ranges()[-1] == "bytes=100000-"
    assert weights.cached(wanted) == path
    with pytest.raises(SteerError, match=r"their storage: no\.pt cannot be fetched"):
        weights.fetch(Weights("their storage", "no.pt", url=f"{online.url}/xswu/HPSv2/resolve/main/no.pt"))


def test_a_repository_comes_as_from_pretrained_reads_it(online: Hub) -> None:
    online.files["org/model"] = {
        "config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"the same",
        "model.fp16.safetensors": b"half", "tokenizer.json": b"{}", "flax_model.msgpack": b"no", "README.md": b"no",
        "onnx/model.onnx": b"no",
    }  # fmt: skip
    wanted = Repository("org/model")
    assert weights.cached(wanted) is None
    folder = weights.fetch(wanted)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert weights.cached(wanted) == folder
    (folder / "model.safetensors").unlink()
    assert weights.cached(wanted) is None


@pytest.mark.slow
def test_a_pipeline_that_was_fetched_loads_without_the_hub(online: Hub, tmp_path: Path, tiny_pipe: Any) -> None:
    tiny_pipe.save_pretrained(tmp_path / "saved")
    files = {file.relative_to(tmp_path / "saved").as_posix(): file.read_bytes()
             for file in (tmp_path / "saved").rglob("*") if file.is_file()}  # fmt: skip
    online.files["org/tiny"] = {**files, "safety_checker/model.safetensors": b"large", "tiny.ckpt": b"the same again"}
    wanted = Repository("org/tiny")
    folder = weights.fetch(wanted)
    assert weights.cached(wanted) == folder
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == set(files)
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained("org/tiny", cache_dir=tmp_path / "cache", local_files_only=True)
    assert type(pipe) is type(tiny_pipe)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert weights.cached(wanted) is None


def test_what_of_a_pipeline_is_read() -> None:
    files = [
        "model_index.json", "README.md", "v1-5-pruned.safetensors", "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.bin", "tokenizer/merges.txt", "text_encoder/config.json",
        "text_encoder/model-00001-of-00002.safetensors", "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json", "safety_checker/model.safetensors", "vae/flax_model.msgpack",
    ]  # fmt: skip
    left_out = {
        "README.md", "v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors", "safety_checker/model.safetensors", "vae/flax_model.msgpack",
    }  # fmt: skip
    assert set(files) - set(hub.readable(files)) == left_out


def test_a_variant_is_read_in_place_of_plain_weights() -> None:
    files = [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.bin",
        "text_encoder/config.json", "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.fp16.json",
    ]  # fmt: skip
    assert set(files) - set(hub.readable(files, "fp16")) == {"unet/diffusion_pytorch_model.safetensors"}
    assert set(files) - set(hub.readable(files)) == {"unet/diffusion_pytorch_model.fp16.safetensors"}


@pytest.fixture
def published(tmp_path: Path, tiny_pipe: Any) -> dict[str, bytes]:
    """A tiny model as people publish it: whole, and in a variant of half the size."""
    tiny_pipe.save_pretrained(tmp_path / "published")
    type(tiny_pipe).from_pretrained(tmp_path / "published", torch_dtype=torch.float16).save_pretrained(
        tmp_path / "published", variant="fp16"
    )
    folder = tmp_path / "published"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def fetched_weights(server: Hub) -> set[str]:
    return {
        path.partition("/resolve/")[2] for method, path, _ in server.requests
        if method == "GET" and path.endswith("safetensors")
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "options", "half"),
    [("fp32", {}, False), ("fp16", {}, True), ("bf16", {}, False), ("fp32", {"variant": "fp16"}, True)],
)
@pytest.mark.filterwarnings("ignore:this CPU emulates")
def test_a_model_is_fetched_in_the_variant_of_its_precision(online: Hub, published, dtype, options, half) -> None:
    online.files["org/tiny"] = published
    model = load_model("org/tiny", manager(), device="cpu", dtype=dtype, options=ModelOptions(**options))
    assert {".fp16." in name for name in fetched_weights(online)} == {half}
    assert next(model.backbone.pipe.unet.parameters()).dtype is DTYPES[dtype]
    hub.reachable.cache_clear()
    online.requests.clear()
    again = load_model("org/tiny", manager(), device="cpu", dtype="fp32")  # what is in the cache serves
    assert not fetched_weights(online) and again.name == "org/tiny"


@pytest.mark.slow
def test_a_cache_that_holds_a_variant_alone_loads_offline(online: Hub, published, monkeypatch) -> None:
    online.files["org/tiny"] = published
    weights.fetch(Repository("org/tiny"), variant="fp16")
    monkeypatch.setattr(hub, "reachable", lambda url=None: False)
    assert load_model("org/tiny", manager(), device="cpu", dtype="fp32").backbone.pipe.unet is not None
    with pytest.raises(SteerError, match="'s variant 'bf16' is not in the hub's cache, and the hub cannot be reached"):
        load_model("org/tiny", manager(), device="cpu", options=ModelOptions(variant="bf16"))


@pytest.mark.slow
def test_a_revision_is_what_is_fetched(online: Hub, published) -> None:
    online.files["org/tiny"] = published
    load_model("org/tiny", manager(), device="cpu", options=ModelOptions(revision="v1"))
    assert all(name.startswith("v1/") for name in fetched_weights(online))


def test_a_repository_that_is_no_pipeline(online: Hub) -> None:
    online.files["org/lora"] = {"pytorch_lora_weights.safetensors": b"x"}
    with pytest.raises(SteerError, match=r"'org/lora' is no diffusers pipeline.*a repository with model_index"):
        load_model("org/lora", manager(), device="cpu")


def test_a_folder_of_the_users_comes_first_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    (tmp_path / HPS).write_bytes(b"mine")
    for given in (tmp_path, tmp_path / HPS):
        assert weights.locate(WANTED, owner="hps", given=given) == tmp_path / HPS
    with pytest.raises(SteerError, match=rf"hps\.weights=.*empty has no file {HPS}"):
        (tmp_path / "empty").mkdir()
        weights.locate(WANTED, owner="hps", given=tmp_path / "empty")
    with pytest.raises(SteerError, match=r"hps\.weights=.*none does not exist"):
        weights.locate(WANTED, owner="hps", given=tmp_path / "none")


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``steer download`` as a process of its own."""
    env = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_CACHE": str(folder / "cache"), **environment}
    for name in [name for name in env if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del env[name]
    command = [sys.executable, "-m", "steer", "download", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def test_the_command_fetches_then_says_that_it_is_cached(server: Hub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"}
    done = run("hps", folder=tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, f"fetching xswu/HPSv2: {HPS} (300.0 kB)\n")
    assert "fetched and verified" in done.stdout
    (row,) = json.loads(run("hps", "--json", folder=tmp_path, **environment).stdout)
    assert (row["status"], row["size"], row["file"]) == ("cached", 300_000, HPS)
    assert Path(row["path"]).read_bytes() == CONTENT
    done = run("hps", "--to", str(tmp_path / "usb"), folder=tmp_path, **environment)
    assert [file.name for file in (tmp_path / "usb" / "HPSv2").iterdir()] == [HPS]
    assert (tmp_path / "usb" / "HPSv2" / HPS).read_bytes() == CONTENT


def test_offline_the_command_ends_with_one_line(tmp_path: Path) -> None:
    done = run("hps", folder=tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("steer: error: the hub cannot be reached")
    for fact in ("xswu/HPSv2", HPS, "2.0 GB", "--to FOLDER", "-o hps.weights=FOLDER/HPSv2"):
        assert fact in line


def test_a_file_elsewhere_may_be_stated_by_its_id_in_git(online: Hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    address = f"{online.url}/xswu/HPSv2/resolve/main/{HPS}"
    with pytest.raises(SteerError, match=r"arrived damaged \(its git is not 0{40}\) and was deleted"):
        weights.fetch(Weights("their storage", HPS, url=address, git="0" * 40))
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()
    assert weights.fetch(Weights("their storage", HPS, url=address, git=blob)).read_bytes() == CONTENT
