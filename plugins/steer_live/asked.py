"""From what a request asks for to values as in a run file. Requests come from anywhere: they name what is registered,
and no path, address or file of this machine.
"""

from __future__ import annotations

import re
import secrets
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer import Options, Prompt, Sampler, SteerError
from steer.plugin import TYPED, as_row, leaves, manager, parse_expression, tasks_of, unknown, with_inputs
from steer_live.jobs import IMAGES, Job

MOST_LETTERS = 32_000
"""Of a prompt, as OpenAI's."""
MOST_IMAGES = 10
"""Images per request, as OpenAI's."""
STEERING = ("method", "reward", "judge", "options", "budget", "inputs")
"""Keys of what a request asks for, besides the settings of runs."""
PLAIN_TYPES = (bool, int, float, type(None))
"""Types of the options that requests may set: texts may be paths and addresses."""


class RefusedError(SteerError):
    """A request that is not followed.

    Attributes:
        status: of the answer.
        code: OpenAI's word for it, if there is one.
        param: the part of the request at fault, if it is one part.
    """

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


@dataclass(frozen=True)
class Offer:
    """What a server offers.

    Attributes:
        sampler: the model.
        values: of the command line: the model, and what holds where a request says nothing.
    """

    sampler: Sampler
    values: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.values["model"])

    @property
    def methods(self) -> list[str]:
        """The methods that requests without one get."""
        return list(self.values.get("plugin", ()))

    @property
    def rewards(self) -> list[str]:
        """The rewards that requests without one get."""
        return list(self.values.get("reward", ()))


def values_of(asked: Mapping[str, Any], offer: Offer) -> dict[str, Any]:
    """Return the values of a run, by the keys of run files.

    Args:
        asked: ``method``, ``reward``, ``judge`` (a name or a list; none for nothing), ``options`` (by owner),
            ``budget`` (denoiser evaluations per prompt), and settings of runs by the names of their options.
        offer: its values hold for what is not there.

    Raises:
        RefusedError: naming what is not known, or may not be set from afar.
    """
    for key in asked:
        if key not in TYPED and key not in STEERING:
            raise RefusedError(str(unknown("key of steer", key, [*STEERING, *TYPED])), param=f"steer.{key}")
    values = {key: value for key, value in offer.values.items() if key not in ("seed", "out")}
    for ours, theirs in (("plugin", "method"), ("reward", "reward"), ("judge", "judge")):
        if theirs in asked:
            values[ours] = _names(asked[theirs], theirs)
        values.setdefault(ours, [])
    _check_methods(values["plugin"], offer)
    for kind in ("reward", "judge"):
        _check_rewards(values[kind], kind, offer)
    values |= {key: asked[key] for key in TYPED if asked.get(key) is not None}
    values["options"] = _options(asked.get("options") or {}, values, offer)
    if asked.get("budget") is not None:
        _set_budget(values, asked["budget"])
    return values


def job_of(
    text: Any, values: Mapping[str, Any], offer: Offer, *, n: Any = 1, seed: Any = None,
    inputs: Mapping[str, Any] | None = None, previews: int | None = 0, origin: str = "api",
) -> Job:  # fmt: skip
    """Return the job that makes ``n`` independent images of a prompt.

    Args:
        text: the prompt.
        values: of :func:`values_of`.
        offer: of the server.
        n: images.
        seed: of the first; drawn if it is ``None``, and the others' hashed from it.
        inputs: of the pipeline's call; files are ours.
        previews: see :class:`Job`.
        origin: see :class:`Job`.

    Raises:
        SteerError: for a value of another type or out of range.
    """
    if not isinstance(text, str) or not text.strip():
        raise RefusedError("prompt: expected a text that says what the image should show", param="prompt")
    if len(text) > MOST_LETTERS:
        raise RefusedError(f"prompt: {len(text):,} letters, expected {MOST_LETTERS:,} at most", param="prompt")
    if type(n) is not int or not 1 <= n <= MOST_IMAGES:
        raise RefusedError(f"n: got {str(n)[:20]}, expected 1..{MOST_IMAGES}", param="n")
    if values.get("particles", 1) != 1 and not values["reward"]:
        raise RefusedError("particles: without a reward none would be chosen; name a reward, or ask for n images")
    prompts = with_inputs([Prompt(text)], offer.sampler.backbone.call_inputs, inputs or {}, offer.model)
    seed = secrets.randbelow(2**32) if seed is None else seed
    tasks = tasks_of(enumerate(prompts), seed=seed, replicates=n)
    rows = [as_row(task.prompt) for task in tasks]
    return Job(IMAGES, dict(values), rows, previews=previews, title=text.strip()[:200], origin=origin)


def alone(job: Job, row: Mapping[str, Any], slot: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the row and the values that make one sample of a job by itself: slot k of seed s is slot 0 of s + k.

    ``None`` if its methods change samples, so that it depends on the others.
    """
    known = manager().registry.methods
    if not all(name in known and known[name].load().independent for name in job.values["plugin"]):
        return None
    options = {owner: table for owner, table in job.values["options"].items() if owner not in job.values["plugin"]}
    values = {**job.values, "plugin": [], "options": options, "particles": 1}
    return {**row, "seed": (row["seed"] + slot) % 2**32}, values


def check_rows(prompts: Iterable[Prompt], values: Mapping[str, Any], offer: Offer) -> None:
    """Raise if prompts of an uploaded file name files, or set options that requests may not.

    Raises:
        RefusedError: naming the prompt.
    """
    backbone = offer.sampler.backbone
    inputs = {*backbone.inputs, *backbone.call_inputs, *manager().registry.entries["input"]}
    for prompt in prompts:
        named = inputs & prompt.metadata.keys()
        if named:
            raise RefusedError(
                f"prompt {prompt[:60]!r} names {min(named)}, an input; files and inputs do not come through this "
                "page: use steer render"
            )
        _check_options(prompt.options)


# ---- names ---------------------------------------------------------------------------------------------------------


def _names(given: Any, what: str) -> list[str]:
    listed = [] if given is None or given == "" else [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise RefusedError(f"{what}: expected a name or a list of names", param=f"steer.{what}")
    return [name.strip() for name in listed]


def _check_methods(names: Sequence[str], offer: Offer) -> None:
    known = manager().registry.methods
    for name in names:
        if name not in known and name not in offer.methods:
            raise RefusedError(str(unknown("method", name[:60], known)), param="steer.method", code="unknown_method")


def _check_rewards(expressions: Sequence[str], kind: str, offer: Offer) -> None:
    """Raise unless every reward is registered, with an argument that is the name of something registered, or is one
    that the server was started with."""
    registry = manager().registry
    ours = {term.label for text in _ours(offer) for term in leaves(parse_expression(text))}
    arguments = {*registry.clips, *registry.models}
    for term in (term for text in expressions for term in leaves(parse_expression(text))):
        if term.label in ours:
            continue
        if term.name not in registry.rewards:
            message = str(unknown(kind, term.name[:60], registry.rewards))
            raise RefusedError(message, param=f"steer.{kind}", code="unknown_reward")
        if term.argument is not None and term.argument not in arguments and not _is_version(term.argument):
            raise RefusedError(
                f"{kind} {term.label[:60]!r}: a request may not say what {term.name} loads or asks; start the server "
                f"with --reward {term.label[:60]}",
                param=f"steer.{kind}",
            )


def _ours(offer: Offer) -> list[str]:
    return [*offer.rewards, *offer.values.get("judge", ())]


def _is_version(argument: str) -> bool:
    """Whether an argument can only be a version or a number, as in ``hps:v2.1`` and ``length:12``."""
    return re.fullmatch(r"v?\d+(\.\d+)*", argument) is not None


# ---- options -------------------------------------------------------------------------------------------------------


def _options(given: Any, values: Mapping[str, Any], offer: Offer) -> dict[str, dict[str, Any]]:
    """Return the options of what takes part: the server's own, over which the request's go."""
    if not isinstance(given, Mapping) or not all(isinstance(table, Mapping) for table in given.values()):
        raise RefusedError("options: expected {PLUGIN: {OPTION: VALUE}}", param="steer.options")
    _check_options(given)
    named = [*values["reward"], *values["judge"]]
    taking_part = {*values["plugin"], *(term.name for text in named for term in leaves(parse_expression(text)))}
    ours, known = offer.values.get("options", {}), manager().registry
    if not taking_part <= {*known.methods, *known.rewards}:  # a file's method has its options under a name of its own
        taking_part |= ours.keys() - {*known.methods, *known.rewards}
    merged = {owner: dict(table) for owner, table in ours.items() if owner in taking_part}
    for owner, table in given.items():
        merged.setdefault(str(owner), {}).update(table)
    return merged


def _check_options(given: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise for an option whose value may be a path or an address; unknown ones are found when the run is checked."""
    registry = manager().registry
    for owner, table in given.items():
        entry = registry.methods.get(owner) or registry.rewards.get(owner)
        declared = getattr(entry.load(), "Options", Options) if entry is not None else Options
        for name in table:
            if not may_be_set(declared, name):
                raise RefusedError(
                    f"option {str(owner)[:40]}.{str(name)[:40]} is unknown, or takes a text, which a request may not "
                    "set: start the server with -o",
                    param="steer.options",
                )


def may_be_set(declared: type[Options], name: str) -> bool:
    """Whether requests may set an option: its values are numbers, flags or words of a fixed list."""
    fields = {field.alias or own: field.annotation for own, field in declared.model_fields.items()}
    return name in fields and _is_plain(fields[name])


def _is_plain(annotation: Any) -> bool:
    """Whether values of a type are numbers, flags or words of a fixed list."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal or annotation in PLAIN_TYPES or annotation is Ellipsis:
        return True
    if origin in (typing.Union, types.UnionType, tuple, list):
        return all(map(_is_plain, typing.get_args(annotation)))
    return origin is typing.Annotated and _is_plain(typing.get_args(annotation)[0])


def _set_budget(values: dict[str, Any], budget: Any) -> None:
    """Bound the denoiser evaluations of the outermost method that can keep to a bound."""
    for name in values["plugin"]:
        entry = manager().registry.methods.get(name)
        option = None if entry is None else entry.load().budget_option
        if option is not None:
            values["options"].setdefault(name, {})[option] = budget
            return
    bounded = sorted(
        name for name, entry in manager().registry.methods.items() if getattr(entry.load(), "budget_option", None)
    )
    raise RefusedError(
        f"budget: {' + '.join(values['plugin']) or 'a plain run'} keeps to no budget; leave it out, or take one of "
        f"{', '.join(bounded)}",
        param="steer.budget",
    )
