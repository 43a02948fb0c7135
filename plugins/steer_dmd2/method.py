"""DMD2 as a method: a student's weights, scheduler and timesteps in place of the model's own."""

from __future__ import annotations

from functools import partial

from steer import Method, SteerError, hookimpl
from steer.plugin import Denoiser, Run
from steer_dmd2.loading import choose, denoiser
from steer_dmd2.options import DMD2Options


class DMD2(Method):
    """Generation by a one- or few-step student (arXiv 2405.14867, sec. 4.4 and 4.5).

    Nothing of the sampling is special: the student is another denoiser under the model's text encoder and
    autoencoder, asked at the timesteps that it was trained for, with every step's x0 noised afresh for the next.
    """

    name = "dmd2"
    Options = DMD2Options
    options: DMD2Options

    @hookimpl(tryfirst=True)
    def configure(self, run: Run) -> None:
        """Set scheduler and timesteps, guidance off, and name the weights: before other methods look at these."""
        if not run.backbone.continuous:
            raise SteerError(
                f"dmd2 has students of models of images, and this one makes {run.backbone.modality}s; drop it"
            )
        if run.backbone.scheduler is None:
            raise SteerError("dmd2 has students of diffusers pipelines, and this model is none; drop it")
        chosen = choose(self.options, run.backbone)
        run.set("scheduler", chosen.scheduler, by="dmd2")
        run.set("steps", chosen.steps, by="dmd2")
        if chosen.timesteps is not None:
            run.set("timesteps", chosen.timesteps, by="dmd2")
        if float(run.get(run.backbone.cfg_setting)) > 1:
            run.set(run.backbone.cfg_setting, 1.0, by="dmd2")
        load = partial(denoiser, chosen, run.backbone)
        run.bring(Denoiser(f"dmd2 {chosen.name} {chosen.steps}", chosen.file, load), by="dmd2")
