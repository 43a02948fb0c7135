"""From names and options to methods and rewards."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steer.errors import SteerError, nearest
from steer.methods import Method
from steer.options import Options, build
from steer.plugins import Plugins, find_method, is_file_reference, load_module, member
from steer.rewards import Reward, RewardFunction, WeightedSum, as_function, parse_expression

OptionValues = Mapping[str, Mapping[str, Any]]
RewardSpec = str | RewardFunction | Reward
MethodSpec = str | Method | type[Method]


def make_methods(specs: Sequence[MethodSpec], options: OptionValues, plugins: Plugins) -> list[Method]:
    """Make methods from names, ``./file.py`` references, classes or instances.

    Raises:
        SteerError: for an unknown name or options that do not fit.
    """
    methods = []
    for spec in specs:
        if isinstance(spec, Method):
            methods.append(spec)
            continue
        cls = find_method(spec, plugins) if isinstance(spec, str) else spec
        if not (inspect.isclass(cls) and issubclass(cls, Method)):
            raise SteerError(f"{spec!r} is a {type(cls).__name__}, expected a steer.Method subclass")
        methods.append(cls(build(cls.Options, options.get(cls.name, {}), cls.name)))
    return methods


def make_reward(
    specs: Sequence[RewardSpec], options: OptionValues, plugins: Plugins, device: torch.device
) -> WeightedSum | None:
    """Make the sum of the given rewards: expressions like ``"shapes:1+clip:0.5"``, functions or instances."""
    terms: list[tuple[str, float, RewardFunction]] = []
    for spec in specs:
        if not isinstance(spec, str):
            name = getattr(spec, "name", None) or getattr(spec, "__name__", None) or type(spec).__name__
            terms.append((str(name), 1.0, as_function(str(name), spec)))
            continue
        for term in parse_expression(spec):
            label = term.name if term.argument is None else f"{term.name}:{term.argument}"
            terms.append((label, term.weight, _one_reward(term.name, term.argument, options, plugins, device)))
    return WeightedSum(terms) if terms else None


def check_names(
    methods: Sequence[MethodSpec], rewards: Sequence[RewardSpec], options: OptionValues, plugins: Plugins
) -> None:
    """Look up every name and validate every option without loading weights, so that a typing error costs no wait.

    Raises:
        SteerError: for whatever :func:`make_methods` and :func:`make_reward` would not take.
    """
    make_methods(methods, options, plugins)
    for spec in rewards:
        for term in parse_expression(spec) if isinstance(spec, str) else ():
            _find_reward(term.name, term.argument, options, plugins)


def check_owners(options: OptionValues, methods: Sequence[Method], reward: WeightedSum | None) -> None:
    """Raise if options were given for a plugin that takes no part in the run.

    Raises:
        SteerError: naming the option and the plugins that are active.
    """
    active = {method.name for method in methods}
    active |= {name.split(":")[0] for name, _, _ in reward.terms} if reward else set()
    for owner, values in options.items():
        if owner not in active:
            raise SteerError(
                f"option {owner}.{next(iter(values), '')} is for {owner!r}, which is not active"
                f"{nearest(owner, active)} (active: {', '.join(sorted(active)) or 'none'})"
            )


def _one_reward(
    name: str, argument: str | None, options: OptionValues, plugins: Plugins, device: torch.device
) -> RewardFunction:
    target, declared, argument = _find_reward(name, argument, options, plugins)
    if declared is None:
        return as_function(name, target)
    made: RewardFunction = target(declared, argument=argument, device=device)
    return made


def _find_reward(
    name: str, argument: str | None, options: OptionValues, plugins: Plugins
) -> tuple[Any, Options | None, str | None]:
    """Return what a reward's name stands for, its options if it declares some, and the argument left to it."""
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
        return target, build(target.Options, options.get(name, {}), name), argument
    if argument is not None:
        raise SteerError(f"reward {name!r} takes no argument, got {argument!r}")
    return as_function(name, target), None, None
