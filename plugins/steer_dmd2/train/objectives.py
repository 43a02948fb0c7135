"""The objective of each phase: batches of the student's inputs, and the losses on them."""

import torch
from torch import Tensor, nn

from steer.plugin import Conditioning
from steer.training import Draw
from steer_dmd2.train import critic as critics
from steer_dmd2.train import losses
from steer_dmd2.train.data import Dataset
from steer_dmd2.train.discriminator import Captioned, Discriminator, fool, frozen, scale_of, tell_apart
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.schedule import forward_inputs, simulate
from steer_dmd2.train.teacher import Teacher

MATCHED = (0.02, 0.98)
"""Range of timesteps, as shares of all, at which the two distributions are compared."""


class Objectives:
    """The losses of all phases, each a function of a micro-batch's generators; ``"loss"`` is minimized."""

    def __init__(
        self,
        recipe: Recipe,
        teacher: Teacher,
        data: Dataset,
        pairs: dict[str, Tensor] | None,
        critic: nn.Module,
        head: nn.Module,
        discriminator: Discriminator | None = None,
    ) -> None:
        """Keep the networks and the data; ``teacher`` holds the UNets base, student and critic."""
        self.recipe, self.teacher, self.data, self.pairs = recipe, teacher, data, pairs
        self.critic, self.head, self.discriminator = critic, head, discriminator
        self._samples: list[tuple[Tensor, list[str]]] = []
        self._images: list[tuple[Tensor, list[str]]] = []

    def regression(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss of predicting the teacher's samples from their noise; later steps get diffused samples."""
        assert self.pairs is not None
        rows = torch.from_numpy(draw.rng.integers(len(self.pairs["x0"]), size=self.recipe.batch))
        x0, noise = (self._to_device(self.pairs[name][rows].float()) for name in ("x0", "noise"))
        captions = [self.data.captions[row % len(self.data)] for row in rows.tolist()]
        inputs, timesteps = [], []
        for index, time in enumerate(self.recipe.timesteps):
            part = slice(index, None, len(self.recipe.timesteps))
            rows_at = torch.full((len(x0[part]),), time, dtype=torch.long, device=x0.device)
            fresh = self._to_device(draw.normal(*x0[part].shape))
            inputs.append(noise[part] if index == 0 else self.teacher.schedule.diffuse(x0[part], fresh, rows_at))
            timesteps.append(rows_at)
        parts = [torch.arange(len(x0))[i :: len(inputs)] for i in range(len(inputs))]
        order = torch.argsort(torch.cat(parts))
        x, timestep = torch.cat(inputs)[order], torch.cat(timesteps)[order]
        out = self.teacher.x0("student", x, timestep, self.teacher.encode(captions))
        loss = losses.denoising(out, x0)
        return {"loss": loss, "regression": loss}

    def matching(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss of distribution matching, and the student's part of the GAN."""
        recipe, schedule = self.recipe, self.teacher.schedule
        x, timestep, captions = self._inputs(draw)
        cond = self.teacher.encode(captions)
        sample = self.teacher.x0("student", x, timestep, cond)
        self._samples.append((sample.detach(), captions))
        at = self._to_device(schedule.draw(len(sample), draw.noise, *MATCHED))
        noise = self._to_device(draw.normal(*sample.shape))
        diffused = schedule.diffuse(sample, noise, at)
        with torch.no_grad():
            guided = self.teacher.encode(captions, recipe.guidance_scale)
            real = self.teacher.x0("base", diffused, at, guided)
            fake = self.teacher.x0("critic", diffused, at, cond)
        found = {"matching": losses.distribution_matching(sample, real, fake)}
        loss = found["matching"]
        if recipe.gan:
            found["student_gan"] = self._student_gan(diffused, at, cond)
            loss = loss + recipe.gan * found["student_gan"]
        if recipe.pixel_gan:
            assert self.discriminator is not None
            (matched,) = torch.autograd.grad(found["matching"], sample, retain_graph=True)
            at_once = self.teacher.backbone.decoded_at_once(sample)
            with _in_fp32(self.teacher.device):
                found["pixel_gan"], gradient, images = fool(
                    self.discriminator, sample, _tokens(cond), self.teacher.decode, at_once
                )
            self._images.append((images, captions))
            gradient = scale_of(recipe.pixel_gan, matched, gradient) * gradient
            loss = loss + losses.known_gradient(sample, found["pixel_gan"], gradient)
        return {"loss": loss, **found}

    def criticism(self, draw: Draw) -> dict[str, Tensor]:
        """Return the critic's denoising loss on the student's samples, and the head's on real and generated samples."""
        recipe, schedule = self.recipe, self.teacher.schedule
        if self._samples:  # reuse those of the student's last update: as good as fresh ones, at no cost
            sample, captions = self._samples.pop(0)
            cond = self.teacher.encode(captions)
        else:
            x, timestep, captions = self._inputs(draw)
            cond = self.teacher.encode(captions)
            with torch.no_grad():
                sample = self.teacher.x0("student", x, timestep, cond)
        at = self._to_device(schedule.draw(len(sample), draw.noise, *MATCHED))
        noise = self._to_device(draw.normal(*sample.shape))
        diffused = schedule.diffuse(sample, noise, at)
        prediction, features = critics.with_features(
            self.critic, diffused, lambda: self.teacher.predict("critic", diffused, at, cond)
        )
        weight = None
        if recipe.snr_clip:
            alpha, sigma = schedule.level(at, 1)
            weight = losses.min_snr_weight(alpha, sigma, recipe.snr_clip, schedule.prediction_type)
        found = {"critic": losses.denoising(prediction, schedule.target(sample, noise, at), weight)}
        loss = found["critic"]
        if recipe.gan:
            real, captions = self._real(draw, len(sample))
            diffused = schedule.diffuse(real, self._to_device(draw.normal(*real.shape)), at)
            logits = self._logits(diffused, at, self.teacher.encode(captions))
            fake = self.head(features)
            found["critic_gan"] = losses.adversarial_critic(logits, fake)
            found["head_right"] = ((logits > 0).float().mean() + (fake < 0).float().mean()) / 2
            loss = loss + recipe.gan_critic * found["critic_gan"]
        return {"loss": loss, **found}

    def discrimination(self, draw: Draw, penalized: bool) -> dict[str, Tensor]:
        """Return the discriminator's loss on real images and the student's; see :func:`tell_apart`."""
        assert self.discriminator is not None
        if self._images:
            images, captions = self._images.pop(0)
        else:
            x, timestep, captions = self._inputs(draw)
            with torch.no_grad():
                images = self.teacher.decode(self.teacher.x0("student", x, timestep, self.teacher.encode(captions)))
        latents, shown = self._real(draw, len(images))
        with torch.no_grad():
            real = self.teacher.decode(latents)
        with _in_fp32(self.teacher.device):
            return tell_apart(
                self.discriminator, self._captioned(real, shown), self._captioned(images, captions), penalized=penalized
            )

    # ---- batches ---------------------------------------------------------------------------------------

    def _inputs(self, draw: Draw) -> tuple[Tensor, Tensor, list[str]]:
        """Return a batch of the student's inputs ``[B, …]``, their timesteps ``[B]`` and captions.

        A student with K steps runs once for B/K captions, and each step gives one row. That makes B rows from
        B·(K−1)/K forward passes, with every step in every batch.
        """
        recipe = self.recipe
        count = recipe.batch // len(recipe.timesteps)
        rows = torch.from_numpy(draw.rng.integers(len(self.data), size=count))
        captions = [self.data.captions[row] for row in rows.tolist()]
        noises = [self._to_device(draw.normal(count, *self.teacher.shape)) for _ in recipe.timesteps]
        schedule = self.teacher.schedule
        with torch.no_grad():
            if recipe.simulate:
                cond = self.teacher.encode(captions)
                inputs = simulate(
                    lambda x, t: self.teacher.x0("student", x, t, cond), schedule, noises, recipe.timesteps
                )
            else:
                real, captions = self._real(draw, count)
                inputs = forward_inputs(real, schedule, noises, recipe.timesteps)
        torch.clear_autocast_cache()  # older torch would reuse weights cast without gradient where gradients are needed
        x, timesteps = (torch.cat(parts) for parts in zip(*inputs, strict=True))
        return x, timesteps, captions * len(inputs)

    def _real(self, draw: Draw, count: int) -> tuple[Tensor, list[str]]:
        """Draw real latents with their captions, from the data or from the pairs' samples."""
        if self.data.mean is not None:
            rows = torch.from_numpy(draw.rng.integers(len(self.data), size=count))
            latents = self.data.latents(rows, draw.noise)
        else:
            assert self.pairs is not None
            rows = torch.from_numpy(draw.rng.integers(len(self.pairs["x0"]), size=count))
            latents = self.pairs["x0"][rows].float()
        return self._to_device(latents), [self.data.captions[row % len(self.data)] for row in rows.tolist()]

    def _student_gan(self, diffused: Tensor, at: Tensor, cond: Conditioning) -> Tensor:
        """Return the student's part of the GAN; its gradient is taken here, so that the critic's graph is gone when the
        way back through the student begins, and gradients reach no weight of the critic."""
        x = diffused.detach().requires_grad_()
        with frozen([*self.critic.parameters(), *self.head.parameters()]):
            loss = losses.adversarial_student(self._logits(x, at, cond))
            (gradient,) = torch.autograd.grad(loss, x)
        return losses.known_gradient(diffused, loss, gradient)

    def _captioned(self, images: Tensor, captions: list[str]) -> Captioned:
        return Captioned(images, captions, _tokens(self.teacher.encode(captions)))

    def _logits(self, x: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        features = critics.features_only(self.critic, x, lambda: self.teacher.predict("critic", x, timestep, cond))
        logits: Tensor = self.head(features)
        return logits

    def _to_device(self, value: Tensor) -> Tensor:
        value = value.to(self.teacher.device)
        return value.to(memory_format=torch.channels_last) if value.ndim == 4 else value


def _tokens(cond: Conditioning) -> Tensor:
    return cond.cond["text"].float()


def _in_fp32(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
