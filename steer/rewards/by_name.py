"""Rewards by name: from expressions, options and functions to ``Reward`` objects and judges."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steer.errors import SteerError
from steer.models.device import pick_device
from steer.models.downloads import weights
from steer.models.media import media_of
from steer.registry.declarations import Needed
from steer.registry.local_files import is_file_reference, load_module, member
from steer.registry.plugins import Plugins, manager
from steer.rewards.combinations import Least, Scaled, WeightedSum, check_modality
from steer.rewards.expressions import Node, Term, leaves, parse_expression
from steer.rewards.frames import FRAMES, Frames
from steer.rewards.reward import Reward, RewardFunction, as_function
from steer.settings.options import Options, build
from steer.settings.paths import existing

OptionValues = Mapping[str, Mapping[str, Any]]
RewardSpec = str | RewardFunction | Reward
DEVICE = "device"
"""The option that every reward of a class has: where it computes; by default where the model does."""
COMMON = (DEVICE, FRAMES)
"""Options of rewards that they need not declare."""


def reward_list(reward: Sequence[RewardSpec] | RewardSpec | None) -> list[RewardSpec]:
    """Return rewards as a list; one or none may be given alone."""
    if reward is None:
        return []
    return [reward] if isinstance(reward, str) or callable(reward) else list(reward)


def make_reward(
    specs: Sequence[RewardSpec],
    options: OptionValues,
    plugins: Plugins,
    device: torch.device,
    shared: dict[str, RewardFunction] | None = None,
    *,
    fetch: bool = True,
) -> WeightedSum | None:
    """Make the sum of the given rewards: expressions like ``"shapes:1+clip:0.5"``, functions or instances.

    A reward that is named twice is made once; with ``shared``, also if another call with the same dictionary made it.
    Without ``fetch``, a reward whose weights are not on this machine yet fetches them in :meth:`Reward.ready`.
    """
    shared = {} if shared is None else shared
    terms: list[tuple[str, float, RewardFunction]] = []
    for spec in specs:
        if isinstance(spec, str):
            terms += _make_terms(parse_expression(spec), options, plugins, device, shared, fetch)
        elif isinstance(spec, WeightedSum):  # made before; its terms stay separate for methods that use them one by one
            terms += spec.terms
        else:
            terms.append((spec_name(spec), 1.0, as_function(spec_name(spec), spec)))
    return WeightedSum(terms) if terms else None


def make_judges(
    specs: Sequence[RewardSpec],
    options: OptionValues,
    plugins: Plugins,
    device: torch.device,
    shared: dict[str, RewardFunction] | None = None,
    *,
    fetch: bool = True,
) -> dict[str, WeightedSum]:
    """Make each judge separately, by the name under which its scores are reported; see :func:`make_reward`."""
    judges = {}
    for spec in specs:
        judge = make_reward([spec], options, plugins, device, shared, fetch=fetch)
        assert judge is not None
        judges[spec if isinstance(spec, str) else spec_name(spec)] = judge
    return judges


def check_judges(rewards: Sequence[RewardSpec], judges: Sequence[RewardSpec]) -> None:
    """Raise if a reward both steers and judges: its score is biased for samples that it chose.

    Raises:
        SteerError: naming it.
    """
    steering = _identities(rewards)
    for name, identity in _identities(judges).items():
        if identity in steering.values():
            raise SteerError(
                f"{name!r} is both a reward and a judge; a judge is held out from steering: drop it from --judge, or "
                "steer by another reward"
            )


def _identities(specs: Sequence[RewardSpec]) -> dict[str, object]:
    found: dict[str, object] = {}
    for spec in specs:
        if isinstance(spec, str):
            found |= {term.label: _identity(term) for term in leaves(parse_expression(spec))}
        else:
            found[spec_name(spec)] = id(spec)
    return found


def _identity(term: Term) -> object:
    """Return a reward's identity, equal for all its spellings: name and weights (``hps`` is ``hps:v2.1``), or file.

    For a reward that takes its weights from the argument, it is the argument (``classifier:ID/LABEL``).
    """
    if is_file_reference(term.name):
        file = existing(term.name)
        return file.resolve() if file else term.name, term.argument
    entry = manager().registry.rewards.get(term.name)
    needed = () if entry is None else entry.weights(term.argument)
    return (term.name, needed) if needed and all(one.option for one in needed) else term.label


def spec_name(spec: object) -> str:
    """Return the name of a reward or method: the text itself, else the name of the object or its class."""
    if isinstance(spec, str):
        return spec
    return str(getattr(spec, "name", None) or getattr(spec, "__name__", None) or type(spec).__name__)


def reward_names(specs: Sequence[RewardSpec]) -> set[str]:
    """Return the names of all rewards in expressions: the owners of their options."""
    return {term.name for spec in specs if isinstance(spec, str) for term in leaves(parse_expression(spec))} | {
        spec_name(spec) for spec in specs if not isinstance(spec, str)
    }


def check_rewards(specs: Sequence[RewardSpec], options: OptionValues, plugins: Plugins) -> None:
    """Look up every reward and validate its options without loading weights.

    Raises:
        SteerError: see :func:`make_reward`.
    """
    for spec in specs:
        for term in leaves(parse_expression(spec)) if isinstance(spec, str) else ():
            target, declared, _ = _find_reward(term.name, term.argument, options, plugins)
            _bounds(term, target)
            if (place := _common(term, DEVICE, target, options)) is not None:
                pick_device(str(place))
            if (frames := _common(term, FRAMES, target, options)) is not None:
                _frames(term, frames)
            weights.check(_needed(term, declared, plugins), owner=term.label, options=declared)


def check_modalities(
    specs: Sequence[RewardSpec], modality: str, options: OptionValues, plugins: Plugins, who: str = "this model makes"
) -> None:
    """Raise if a reward does not score samples of a modality, or has an option that they do not; loads no weights.

    Raises:
        SteerError: naming it.
    """
    for spec in specs:
        if not isinstance(spec, str):
            check_modality(spec_name(spec), spec, modality, who)
            continue
        for term in leaves(parse_expression(spec)):
            target = _find_reward(term.name, term.argument, options, plugins)[0]
            check_modality(term.label, target, modality, who)
            medium = media_of(modality)
            by_frame = medium.made_of is not None and getattr(target, "modality", None) in (None, medium.made_of)
            if _common(term, FRAMES, target, options) is not None and not by_frame:
                raise SteerError(
                    f"option {term.name}.{FRAMES} is for rewards of images that score videos frame by frame; "
                    f"{term.label!r} scores {media_of(modality).plural} as they are: leave it out"
                )


def _make_terms(
    nodes: Sequence[Node],
    options: OptionValues,
    plugins: Plugins,
    device: torch.device,
    shared: dict[str, RewardFunction],
    fetch: bool,
) -> list[tuple[str, float, RewardFunction]]:
    terms: list[tuple[str, float, RewardFunction]] = []
    for node in nodes:
        reward: RewardFunction
        if isinstance(node, Term):
            label = node.label
            if label not in shared:
                shared[label] = _one_reward(node, options, plugins, device, fetch)
            reward = shared[label]
            if node.scale is not None:
                reward = Scaled(label, reward, *_bounds(node, reward))
                label = f"{label}@{node.scale.text}"
        else:
            parts = (_make_terms(part, options, plugins, device, shared, fetch) for part in node.parts)
            reward = Least([WeightedSum(part) for part in parts])
            label = node.label
        terms.append((label, node.weight, reward))
    return terms


def _bounds(term: Term, reward: object) -> tuple[float, float]:
    """Return the center and width of a term's scale; a bare ``@z`` takes what the reward declares."""
    if term.scale is None:
        return 0.0, 1.0
    if term.scale.center is not None and term.scale.width is not None:
        return term.scale.center, term.scale.width
    typical: tuple[float, float] | None = getattr(reward, "typical", None)
    if typical is None:
        raise SteerError(f"reward {term.label!r} states no typical mean and sd; give them, as in {term.label}@z25,4")
    return typical


def _one_reward(
    term: Term, options: OptionValues, plugins: Plugins, device: torch.device, fetch: bool
) -> RewardFunction:
    target, declared, argument = _find_reward(term.name, term.argument, options, plugins)
    frames = _common(term, FRAMES, target, options)
    if declared is None:
        function = as_function(term.name, target)
        return function if frames is None else _by_frames(function, _frames(term, frames))
    place = _common(term, DEVICE, target, options)
    if place is not None:
        device = pick_device(str(place))
    keywords: dict[str, Any] = {"argument": argument, "device": device}
    # a reward with a constructor of its own loads in it
    if not fetch and target.__init__ is Reward.__init__:
        keywords["later"] = not weights.complete(_needed(term, declared, plugins), declared)
    made: Reward = target(declared, **keywords)
    if frames is not None:
        made.frames = _frames(term, frames)
    return made


def _by_frames(function: RewardFunction, frames: Frames) -> RewardFunction:
    """Return a function that scores other frames of videos than its own attribute says, which others may share."""

    @functools.wraps(function)
    def chosen(samples: Any, prompts: Sequence[Any]) -> torch.Tensor:
        return function(samples, prompts)

    setattr(chosen, FRAMES, frames)
    return chosen


def _frames(term: Term, value: object) -> Frames:
    try:
        return Frames.parse(value)
    except SteerError as error:
        raise SteerError(f"option {term.name}.{error}") from None


def _needed(term: Term, declared: Options | None, plugins: Plugins) -> Sequence[Needed]:
    """Return the weights that a reward is registered with."""
    entry = plugins.registry.rewards.get(term.name)
    if entry is None:
        return ()
    # if the reward's name gives no model, its option ``model`` does
    return entry.weights(term.argument if term.argument is not None else getattr(declared, "model", None))


def _find_reward(
    name: str, argument: str | None, options: OptionValues, plugins: Plugins
) -> tuple[Any, Options | None, str | None]:
    """Return a name's reward, its declaration of options if it has one, and its argument."""
    if is_file_reference(name):
        if argument is None:
            raise SteerError(f"reward {name!r}: name the function in the file, as in {name}:brightness")
        target = member(load_module(name), argument, name)
        argument = None
    else:
        if name in plugins.registry.methods and name not in plugins.registry.rewards:
            raise SteerError(f"{name!r} is a method, not a reward; give it as --plugin {name}")
        target = plugins.registry.get("reward", name).load()
    if inspect.isclass(target) and issubclass(target, Reward):
        given = {key: value for key, value in options.get(name, {}).items() if not _is_common(key, target)}
        return target, build(target.Options, given, name), argument
    if argument is not None:
        raise SteerError(f"reward {name!r} takes no argument, got {argument!r}")
    # a class with __call__ counts as a function of (samples, prompts)
    return as_function(name, target() if inspect.isclass(target) else target), None, None


def _common(term: Term, option: str, target: Any, options: OptionValues) -> Any:
    """Return the value of an option that a reward has without declaring it, if it is given."""
    return options.get(term.name, {}).get(option) if _is_common(option, target) else None


def _is_common(option: str, target: Any) -> bool:
    fields = getattr(target, "Options", Options).model_fields
    return option in COMMON and not any(option in (name, field.alias) for name, field in fields.items())
