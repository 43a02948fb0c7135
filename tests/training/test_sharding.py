"""Networks that are split over two processes: they learn what whole ones do, and each run resumes as the other kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support import processes, split_training
from support.commands import Steer
from support.tiny import tiny_sd
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from steer import SteerError
from steer.training import read_checkpoint
from steer.training.sharding import blocks_of, split


def flat(value: object) -> list[Tensor]:
    if isinstance(value, dict):
        return [tensor for name in sorted(value, key=str) for tensor in flat(value[name])]
    return [value] if isinstance(value, Tensor) else []


def parts(run: Path) -> list[Tensor]:
    """Return the weights, averages and optimizers' states in a checkpoint."""
    return flat(read_checkpoint(run / "checkpoint.pt")["parts"])


def log(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow  # two processes
def test_split_networks_learn_what_whole_ones_do(tmp_path: Path) -> None:
    processes.together(tmp_path, split_training.all_kinds)
    for kind, other in (("split", "whole"), ("whole, split", "whole"), ("split, whole", "whole")):
        for tensor, wanted in zip(parts(tmp_path / kind), parts(tmp_path / other), strict=True):
            assert torch.allclose(tensor, wanted, rtol=1e-4, atol=1e-5), kind
        for row, values in zip(log(tmp_path / kind), log(tmp_path / other), strict=True):
            assert row == pytest.approx(values, rel=1e-4, abs=1e-5), kind
    for kind in ("whole", "split"):
        pairs = zip(parts(tmp_path / f"{kind}, {kind}"), parts(tmp_path / kind), strict=True)
        assert all(torch.equal(resumed, unbroken) for resumed, unbroken in pairs)
        assert log(tmp_path / f"{kind}, {kind}") == log(tmp_path / kind)
    for row, values in zip(log(tmp_path / "split bf16"), log(tmp_path / "whole bf16"), strict=True):
        assert row == pytest.approx(values, rel=0.05, abs=0.02)
    (measured,) = [row for row in log(tmp_path / "split") if "averaged" in row]  # by the first process alone
    assert measured["averaged"] == pytest.approx(measured["alone"], rel=1e-5)
    assert measured["averaged"] != pytest.approx(measured["last"], rel=1e-3)
    assert [path.name for path in (tmp_path / "split" / "sheets").iterdir()] == ["000003.png"]


def test_blocks_are_those_that_a_network_names_or_lists_and_share_no_weight() -> None:
    unet = [type(block).__name__ for block in blocks_of(tiny_sd().unet)]
    assert unet.count("ResnetBlock2D") == 8 and unet.count("CrossAttnUpBlock2D") == 1
    assert unet.index("CrossAttnUpBlock2D") > unet.index("BasicTransformerBlock")  # inner ones first
    net = split_training.Blocks()
    assert blocks_of(net) == [net.blocks[1], net.blocks[0]]
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=8)
    bert = [type(block).__name__ for block in blocks_of(BertForMaskedLM(config))]
    assert bert == ["BertLayer", "BertLayer"]  # the embeddings' weight is the decoder's too


def test_what_cannot_be_split_is_told(steer: Steer, monkeypatch: pytest.MonkeyPatch) -> None:
    told = steer("train", "text", "--steps", 1, "--shard").error()
    assert told.startswith("--shard splits networks over processes, and there is one; start several with `accelerate")
    told = steer("train", "text", "--steps", 1, "--shard", "--adam-bits", 8).error()
    assert told == "--shard does not go with --adam-bits 8, whose averages cannot be split; use 32"
    assert not Path("runs").exists()
    network = nn.Linear(2, 2)
    network.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(SteerError, match="--shard cannot split the weight temperature, a single number"):
        split(network, None, "no")  # type: ignore[arg-type]
