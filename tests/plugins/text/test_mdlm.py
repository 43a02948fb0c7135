"""The network of MDLM's checkpoints: the published network's numbers, drawing with it, and files that are none."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_mdlm import VOCABULARY, WORDS, mdlm_folder, shapes

from steer import Sampler, SteerError
from steer_text.mdlm import Mdlm, config_of, load

TOKENS = [[2, 3, 8, 8, 8], [5, 8, 7, 8, 0]]
LOGITS = [
    [
        [-0.30131, 0.02086, 0.33925, 0.51383, 0.46514, 0.21046, -0.14177, -0.43788, -0.54585],
        [-0.51273, -0.10195, 0.36018, 0.6691, 0.68505, 0.3963, -0.07341, -0.51768, -0.738],
        [-0.23273, 0.08759, 0.37418, 0.50128, 0.41073, 0.13863, -0.19878, -0.45448, -0.51459],
        [-0.24075, 0.09056, 0.38681, 0.5179, 0.42389, 0.14241, -0.20607, -0.46957, -0.5307],
        [-0.24108, 0.09275, 0.39053, 0.52148, 0.42572, 0.14167, -0.20905, -0.47345, -0.53375],
    ],
    [
        [-0.84154, -0.35985, 0.28895, 0.81652, 0.98494, 0.71406, 0.11958, -0.53609, -0.95954],
        [-0.23544, 0.19972, 0.55081, 0.66313, 0.48516, 0.09222, -0.3452, -0.63518, -0.64847],
        [-0.47797, -0.05114, 0.40423, 0.68662, 0.66818, 0.35261, -0.12431, -0.55295, -0.7418],
        [-0.23697, 0.18623, 0.53142, 0.64654, 0.47881, 0.09897, -0.32838, -0.61585, -0.63529],
        [-0.10259, 0.34807, 0.64808, 0.66565, 0.39181, -0.05511, -0.48037, -0.69752, -0.60999],
    ],
]
"""What the published network gives for these tokens and weights, without noise."""


def loaded(folder: Path) -> tuple[Mdlm, Any]:
    config = config_of(str(folder))
    assert config is not None
    return load(str(folder), config, "model 'text:x'")


def test_logits_are_the_published_networks(tmp_path: Path) -> None:
    model, tokenizer = loaded(mdlm_folder(tmp_path))
    with torch.no_grad():
        logits = model(torch.tensor(TOKENS)).logits
    assert torch.allclose(logits, torch.tensor(LOGITS), atol=2e-4)
    assert tokenizer.mask_token_id == VOCABULARY - 1 and tokenizer.encode("a red circle") == [2, 3, 5]
    assert model.config.max_position_embeddings == 16
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes()


def test_texts_are_drawn_from_a_folder(tmp_path: Path) -> None:
    sampler = Sampler(f"text:{mdlm_folder(tmp_path)}", device="cpu")
    settings = {"steps": 4, "length": 8, "particles": 3, "seed": 0}
    texts = sampler.generate(["a red"], choose="all", **settings).texts
    assert len(texts) == 3 and all(text.startswith("a red") for text in texts)
    assert all(set(text.split()) <= set(WORDS) for text in texts)
    steered = sampler.generate(["a red"], methods=["fk"], reward=lambda texts, prompts: torch.tensor(
        [float(text.count("blue")) for text in texts]), **settings)  # fmt: skip
    assert len(steered.texts) == 1


def test_a_pickle_of_tensors_serves_too_and_one_with_code_is_refused(tmp_path: Path) -> None:
    folder = mdlm_folder(tmp_path)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert isinstance(loaded(folder)[0], Mdlm)

    class Code:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
    with pytest.raises(SteerError, match=r"pytorch_model\.bin cannot be read"):
        loaded(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("backbone.vocab_embed.embedding"), "is not a checkpoint of MDLM .KeyError"),
        (lambda state: state.pop("backbone.blocks.1.norm1.weight"), r"1 missing: blocks\.1\.norm1\.weight"),
        (lambda state: state.update({"backbone.other": torch.zeros(1)}), r"1 left over: other"),
        (lambda state: state.update({"backbone.rotary_emb.inv_freq": torch.zeros(3)}), "is not a checkpoint of MDLM"),
        (lambda state: state.update({"backbone.blocks.0.mlp.0.bias": torch.zeros(3)}), "1 of another shape"),
    ],
)  # fmt: skip
def test_other_checkpoints_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = mdlm_folder(tmp_path)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(SteerError, match=message) as caught:
        Sampler(f"text:{folder}", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_size_is_refused_and_a_missing_one_is_named(tmp_path: Path, monkeypatch) -> None:
    folder = mdlm_folder(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["more"] = len(WORDS)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SteerError, match=r"the network has 9 tokens, of which the last is the mask; .* has 10"):
        loaded(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SteerError, match=r"needs tokenizer\.json of openai-community/gpt2"):
        loaded(mdlm_folder(tmp_path / "bare", tokenizer=False))


def test_only_folders_that_say_so_are_mdlms(tmp_path: Path) -> None:
    assert config_of(str(mdlm_folder(tmp_path / "a", model_type="bert"))) is None
    assert config_of(str(tmp_path)) is None and config_of("no/such-model") is None
    with pytest.raises(SteerError, match="is not a checkpoint of MDLM"):
        Sampler(f"text:{_without_frequencies(mdlm_folder(tmp_path / 'b', n_heads=3))}", device="cpu")


def _without_frequencies(folder: Path) -> Path:
    state = load_file(folder / "model.safetensors")
    del state["backbone.rotary_emb.inv_freq"]
    save_file(state, folder / "model.safetensors")
    return folder
