"""``LocalEngine``: renders in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from threading import Event

from steer.errors import SteerError, shortened
from steer.models.device import dtype_name, dtype_of
from steer.prompts.prompt import Prompt
from steer.registry.registration import hookimpl
from steer.render.engine import Engine, Pack, PlannedGroup
from steer.render.outcomes import Failed, Outcome, rendered
from steer.render.previews import Previews
from steer.render.spec import Spec
from steer.sampling.hooks import methods_of
from steer.sampling.method import acting_hooks
from steer.sampling.packs import halves
from steer.sampling.run import Run
from steer.sampling.session import Session, image_size, pack_size_of

log = logging.getLogger(__name__)

REASON = 500
"""Longest reason in characters, about."""


class LocalEngine(Engine):
    """Loads the model and the rewards here, and renders pack after pack."""

    def __init__(
        self,
        spec: Spec,
        *,
        observers: Sequence[object] = (),
        small_packs: bool = False,
        pack_prompts: int | None = None,
    ) -> None:
        """Load everything.

        Args:
            spec: the request and how it is rendered.
            observers: objects with hook wrappers that only watch.
            small_packs: make packs that just fill a chunk, so that several engines share the work evenly.
            pack_prompts: prompts per pack, instead of as many as fit.
        """
        sampler = spec.request.sampler()
        self._previews = Previews(spec.previews) if spec.previews else None
        self._small_packs, self._pack_prompts = small_packs, pack_prompts
        watchers = [*observers, *([self._previews] if self._previews else [])]
        if spec.run_format == 1:
            watchers.append(FirstChunks())
        self._session = Session(
            sampler.model,
            sampler.plugins,
            **spec.request.arguments(),
            observers=watchers,
            shared=sampler.rewards,
        )
        dtype = dtype_of(sampler.backbone.denoisers["base"])
        self.dtype = dtype_name(dtype) or str(dtype).removeprefix("torch.")
        self.searching = False

    def plan(self, prompts: Sequence[Prompt]) -> list[PlannedGroup]:
        groups = []
        for group, probe in self._session.groups(prompts):
            self.searching |= "search" in acting_hooks(methods_of(probe))
            groups.append(
                PlannedGroup(
                    packs=tuple(group.packs(self._pack_prompts or pack_size_of(probe, small=self._small_packs))),
                    settings=probe.settings,
                    nfe=probe.particles * probe.sample_cost,
                    images=(probe.finalists or probe.particles) if self._session.choose == "all" else 1,
                    size=image_size(probe),
                    modality=probe.backbone.modality,
                    frames=probe.backbone.frames(probe.jobs[0].prompt),
                    drops=(probe.finalists or probe.particles) < probe.particles,
                )
            )
        return groups

    def outcomes(self, packs: Sequence[Pack], stop: Event) -> Iterator[Outcome]:
        runs = (self._session.run(pack) for pack in packs)
        for run in self._session.encoded_ahead(runs):
            if stop.is_set():
                break
            yield from self.pack(run)

    def close(self) -> None:
        """Nothing to do: the model goes with the engine."""

    def pack(self, run: Run) -> Iterator[Outcome]:
        """Render one pack. If it fails it is split until the prompts at fault are alone; the others are done."""
        prompts = [job.prompt for job in run.jobs]
        try:
            items = self._session.items(run)
        # plugins may raise anything; the other prompts must still get their images
        except Exception as error:
            if len(prompts) > 1:
                for half in halves(prompts):
                    yield from self.pack(self._session.run(half))
                return
            log.debug("prompt %s failed", prompts[0].id, exc_info=True)
            yield Failed(prompts[0].id, reason_of(error))
            return
        share = {name: value / len(items) for name, value in asdict(run.cost).items()}
        for item in items:
            yield partial(rendered, item, share, self._previews.strips(item) if self._previews else {})


class FirstChunks:
    """Splits forwards as in renders whose ``run.toml`` has format 1, whose other images then get the same bits."""

    @hookimpl(wrapper=True)
    def configure(self, run: Run) -> Iterator[None]:
        """Suggest the size once the particles are known, because methods may set them."""
        yield
        run.suggest("chunk", min(run.particles, 4 if run.backbone.device.type == "cpu" else 16), by="run.toml")


def reason_of(error: Exception) -> str:
    """Return an error on one line, with its type unless it is a ``SteerError``."""
    text = " ".join(str(error).split())
    if not isinstance(error, SteerError):
        text = f"{type(error).__name__}: {text}"
    return shortened(text, REASON)
