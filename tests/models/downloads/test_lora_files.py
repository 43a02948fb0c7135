"""LoRAs of the hub: fetched as all weights are, with progress, resumption and checks, from a hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hub_server import Hub, as_hub, serve

from steer import SteerError
from steer.models.downloads import fetching, hub, weights
from steer.models.downloads.lora_files import locate
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.registry.declarations import Repository
from steer.registry.plugins import manager

CONTENT = np.random.default_rng(0).bytes(300_000)
USUAL = "pytorch_lora_weights.safetensors"


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    files = {
        "org/style": {USUAL: CONTENT, "README.md": b"#", "more.safetensors": b"other"},
        "org/only": {"style.safetensors": CONTENT},
        "org/many": {"a.safetensors": CONTENT, "b/c.safetensors": b"c"},
        "org/pickled": {"style.bin": b"code"},
    }
    with serve(Hub(files)) as server, as_hub(server, tmp_path / "cache", monkeypatch):
        yield server


@pytest.mark.parametrize(
    ("name", "file"),
    [("org/style", USUAL), ("org/only", "style.safetensors"), ("org/many/b/c.safetensors", "c.safetensors")],
)
def test_a_lora_is_fetched_once_and_found_in_the_cache_offline(online: Hub, name, file, monkeypatch) -> None:
    told: list[tuple[str, int, int | None]] = []
    token = fetching.observer.set(lambda *note: told.append(note))
    path = locate(name)
    fetching.observer.reset(token)
    assert path.name == file and told[-1][1] == told[-1][2] == path.stat().st_size
    online.requests.clear()
    monkeypatch.setattr(hub, "reachable", lambda url=None: False)
    assert locate(name) == path and not online.requests


def test_one_that_broke_off_resumes_and_a_damaged_one_is_told(online: Hub) -> None:
    online.cut = [100_000, *[0] * 20]
    with pytest.raises(SteerError, match=r"org/only: style.safetensors broke off after 0\.1 of 0\.3 MB .*resumes it"):
        locate("org/only")
    online.cut.clear()
    assert locate("org/only").read_bytes() == CONTENT
    assert online.ranges()[-1] == "bytes=100000-"
    online.spoil = True
    with pytest.raises(SteerError, match=r"arrived damaged \(its sha256 is not [0-9a-f]{64}\) and was deleted"):
        locate("org/style")


def test_a_revision_is_that_of_the_lora(online: Hub) -> None:
    locate("org/style@v2")
    paths = [path for _, path, _ in online.requests]
    assert paths and all("/v2" in path for path in paths if "/resolve/" in path or "/api/" in path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/none", "org/none cannot be fetched: there is no such repository, or it is private"),
        ("org/style/x.safetensors", "org/style: x.safetensors cannot be fetched: the repository has no such file"),
        ("org/many", r"has 2 files \(a.safetensors, b/c.safetensors\); name one: org/many/FILE"),
        ("org/pickled", "holds no .safetensors file"),
        ("./org/style", "does not exist; expected a .safetensors file, a folder or a hub id"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_before_the_model_is(
    online: Hub, tiny_pipe, tmp_path, name, message
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(SteerError, match=message) as caught:
        load_model(str(tmp_path), manager(), device="cpu", options=ModelOptions(loras=((name, 1.0),)))
    assert "\n" not in str(caught.value)


def test_a_gated_one_and_one_that_is_out_of_reach_say_what_to_do(online: Hub, monkeypatch) -> None:
    online.refuse = ("GatedRepo", 403)
    with pytest.raises(SteerError, match=r"org/style cannot be fetched: it is gated: accept its terms at .*org/style"):
        locate("org/style")
    with fetching.closed(), pytest.raises(SteerError, match="org/style is not in the hub's cache, and a dry run"):
        locate("org/style")
    monkeypatch.setattr(hub, "reachable", lambda url=None: False)
    with pytest.raises(SteerError, match="cannot be reached: run `steer download org/style@v1` on a machine"):
        locate("org/style@v1")


def test_download_takes_a_lora(online: Hub) -> None:
    assert [file.name for file in weights.fetch(Repository("org/only")).iterdir()] == ["style.safetensors"]
    assert locate("org/only").read_bytes() == CONTENT
