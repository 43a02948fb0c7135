"""A real ComfyUI as a server of its own, with a tiny model that diffusers has too."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, EulerAncestralDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from support.tiny import tiny_sd

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "tests" / "plugins" / "comfyui" / "tiny_checkpoint.py"
Graph = dict[str, dict[str, Any]]


def tiny_pipeline() -> StableDiffusionPipeline:
    """Return a Stable Diffusion pipeline of 8×8 latents and 64×64 images, of layers that ComfyUI has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
            cross_attention_dim=32, attention_head_dim=8,
        )  # fmt: skip
        vae = AutoencoderTiny()
        last = vae.decoder.layers[-1]
        last.weight.data *= 30  # images that are neither black nor alike
        last.bias.data += 0.5
    scheduler = EulerAncestralDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
    )
    parts = {**tiny_sd().components, "unet": unet.eval(), "vae": vae.eval(), "scheduler": scheduler}
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def write_tiny(pipe: StableDiffusionPipeline, texts: list[str], folder: Path) -> None:
    """Write the pipeline's weights, and the given texts as it encodes them, for the node of ``tiny_checkpoint.py``."""
    folder.mkdir(parents=True)
    save_file(pipe.unet.state_dict(), folder / "unet.safetensors")
    vae = {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}  # as ComfyUI's loader adds them
    for name, value in pipe.vae.state_dict().items():
        side, _, number, *rest = name.split(".")
        # ComfyUI's decoder begins with a layer that limits the latents
        vae[f"taesd_{side}.{'.'.join([str(int(number) + (side == 'decoder')), *rest])}"] = value
    save_file(vae, folder / "vae.safetensors")
    with torch.no_grad():
        encoded = {f"text:{text}": pipe.encode_prompt(text, "cpu", 1, False)[0].contiguous() for text in texts}
    save_file(encoded, folder / "texts.safetensors")


class ComfyUI:
    """A running server.

    Attributes:
        base: its base directory, with ``models``, ``output`` and ``custom_nodes``.
    """

    def __init__(self, checkout: Path, base: Path, pipe: StableDiffusionPipeline, texts: list[str]) -> None:
        """Start it; its models and its nodes are those that are written here."""
        self.base = base
        nodes = base / "custom_nodes"
        for folder in (nodes, base / "models" / "steer", base / "input", base / "user"):
            folder.mkdir(parents=True)
        (nodes / "steer.py").write_text("from steer_comfyui import *\n")  # as docs/comfyui.md says
        shutil.copy(NODES, nodes)
        write_tiny(pipe, texts, nodes / "tiny_weights")
        (nodes / "tiny_weights" / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = base / "log.txt"
        paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
        command = [
            sys.executable, checkout / "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self._port),
            "--base-directory", base, "--database-url", "sqlite:///:memory:", "--disable-auto-launch",
            "--disable-api-nodes",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=base, env={**os.environ, "PYTHONPATH": paths}, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until(lambda: self.get("/system_stats"), 300)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)

    def queue(self, graph: Graph) -> tuple[int, dict[str, Any]]:
        """Ask for a workflow; return the answer's status and content."""
        request = urllib.request.Request(
            self._url("/prompt"), json.dumps({"prompt": graph}).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def run(self, graph: Graph) -> dict[str, Any]:
        """Run a workflow to its end; return its entry in the history."""
        status, answer = self.queue(graph)
        assert status == 200, answer
        name = answer["prompt_id"]
        entry: dict[str, Any] = self._wait_until(lambda: self.get(f"/history/{name}").get(name), 300)
        return entry

    def outputs(self, graph: Graph) -> dict[str, Any]:
        """Run a workflow that succeeds; return what its nodes show."""
        entry = self.run(graph)
        assert entry["status"]["status_str"] == "success", (entry["status"], self.log[-4000:])
        return entry["outputs"]

    def error(self, graph: Graph) -> str:
        """Run a workflow that fails; return the message."""
        entry = self.run(graph)
        messages = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
        assert len(messages) == 1, entry["status"]
        return messages[0]["exception_message"].strip()

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def get(self, path: str) -> Any:
        """Return what it answers for a path."""
        with urllib.request.urlopen(self._url(path), timeout=60) as answer:
            return json.load(answer)

    def _wait_until(self, ask: Any, seconds: float) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log[-4000:]
            try:
                if found := ask():
                    return found
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"ComfyUI did not answer within {seconds:g} s: {self.log[-4000:]}")
