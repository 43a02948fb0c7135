"""Stage 3: a preview decoder for rewards on estimates of clean images, several times cheaper than the autoencoder's."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from steer.training import Draw

from .autoencoder import reconstruction
from .data import draw_images, save_sheet
from .stage import Recipe, Stage

RECIPE = Recipe(steps=1500, batch=24, rate=2e-3, warmup=50, ema=0.995)
PLAIN_SHARE = 0.6
MIXED, CONCENTRATION = 4, 0.3
"""Scenes in a mixture of latents, and the concentration of the Dirichlet distribution of their shares."""
NOISE = 0.5
"""Largest standard deviation of the noise on latents."""


def build() -> nn.ModuleDict:
    """Return the untrained preview autoencoder."""
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(16,) * 3,
        decoder_block_out_channels=(32,) * 3,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(2, 1, 0),
        latent_channels=4,
    )
    return nn.ModuleDict({"tiny": tiny}).to(memory_format=torch.channels_last)


class PreviewStage(Stage):
    """Distills the autoencoder: its images of latents like those of unfinished samples, and its latents of scenes."""

    name = "preview"
    split = ("tiny.encoder", "tiny.decoder")
    build = staticmethod(build)

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss, and the plain squared errors of the images and the latents."""
        images = draw_images(draw.rng, self.recipe.batch, PLAIN_SHARE).to(self.machine.device)
        tiny: AutoencoderTiny = self.modules["tiny"]
        with self.machine.autocast():
            with torch.no_grad():
                latents = self.vae.encode(images).latent_dist.mean
                mixed = unfinished(latents, draw)
                wanted = self.vae.decode(mixed).sample.float()
            output, encoded = tiny.decode(mixed).sample, tiny.encode(images).latents
        loss, squared = reconstruction(output.float(), wanted)
        latent = F.mse_loss(encoded.float(), latents.float())
        return {"loss": loss + latent, "mse": squared, "latents": latent}

    def sheet(self, path: Path) -> dict[str, float]:
        """Write a sheet of the autoencoder's images and, below them, the preview's; return the squared error."""
        draw = Draw(self.recipe.seed, "preview-sheet", 0)
        images = draw_images(draw.rng, 64, PLAIN_SHARE).to(self.machine.device)
        tiny: AutoencoderTiny = self.averaged()["tiny"]
        latents = unfinished(self.vae.encode(images).latent_dist.mean, draw)
        wanted, output = self.vae.decode(latents).sample.float().cpu(), tiny.decode(latents.float().cpu()).sample
        save_sheet(torch.cat([wanted[:32], output[:32]]) / 2 + 0.5, path)
        return {"sheet_mse": float((output - wanted).square().mean())}


def unfinished(latents: Tensor, draw: Draw) -> Tensor:
    """Return latents ``[N, 4, 16, 16]`` as an estimate before the last step has them: a mean over scenes, and noise.

    Each row is a mixture of :data:`MIXED` rows, most of it of one, with noise of a level of its own.
    """
    count = len(latents)
    shares = torch.from_numpy(draw.rng.dirichlet([CONCENTRATION] * MIXED, count)).to(latents)
    mixed = sum(shares[:, i, None, None, None] * latents.roll(i, 0) for i in range(MIXED))
    level = (NOISE * draw.uniform(count)).to(latents)
    return mixed + level[:, None, None, None] * draw.normal(*latents.shape).to(latents)
