"""DMD2 as a method: a student's weights, scheduler and timesteps replace the model's own."""

from functools import partial

from steer import Method, hookimpl
from steer.plugin import Denoiser, Run
from steer_dmd2.loading import choose, denoiser
from steer_dmd2.options import DMD2Options


class DMD2(Method):
    """Generation by a one- or few-step student (arXiv 2405.14867, sec. 4.4 and 4.5).

    Sampling itself is ordinary: the student is another denoiser between the model's text encoder and autoencoder. It
    runs at the timesteps that it was trained for, and every step's x0 is noised again for the next.
    """

    name = "dmd2"
    Options = DMD2Options
    options: DMD2Options

    @hookimpl(tryfirst=True)
    def configure(self, run: Run) -> None:
        """Set scheduler, timesteps and weights and turn guidance off, before other methods read these settings."""
        chosen = choose(self.options, run.backbone)
        run.set("scheduler", chosen.scheduler, by="dmd2")
        run.set("steps", chosen.steps, by="dmd2")
        if chosen.timesteps is not None:
            run.set("timesteps", chosen.timesteps, by="dmd2")
        if float(run.get(run.backbone.cfg_setting)) > 1:
            run.set(run.backbone.cfg_setting, 1.0, by="dmd2")
        load = partial(denoiser, chosen, run.backbone)
        run.bring(Denoiser(f"dmd2 {chosen.name} {chosen.steps}", chosen.file, load), by="dmd2")
