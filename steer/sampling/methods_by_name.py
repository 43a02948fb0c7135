"""Methods by name: registered ones, local files, classes and instances."""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steer.errors import SteerError, nearest
from steer.registry.local_files import is_file_reference, load_module, member
from steer.registry.plugins import Plugins
from steer.registry.registry import Origin
from steer.rewards.by_name import OptionValues, RewardSpec, check_rewards, reward_names
from steer.sampling.method import Method
from steer.settings.options import build


def find_method(name: str, plugins: Plugins) -> type[Method]:
    """Return the ``Method`` subclass called ``name``: a registered one, or one in a file ``./mine.py[:Class]``.

    Raises:
        SteerError: for an unknown name, or a file that does not hold exactly one method.
    """
    path, _, attribute = name.partition(":")
    if not is_file_reference(path):
        if name in plugins.registry.rewards and name not in plugins.registry.methods:
            raise SteerError(f"{name!r} is a reward, not a method; give it as --reward {name}")
        return method_class(plugins.registry.get("method", name).load(), name)
    module = load_module(path)
    if attribute:
        return method_class(member(module, attribute, path), name)
    if hasattr(module, "steer_register"):
        local = Plugins()
        local.add(module, Origin(Path(path).stem, "", path))
        found: list[Any] = [entry.load() for entry in local.registry.methods.values()]
    else:
        found = [
            v
            for v in vars(module).values()
            if inspect.isclass(v) and issubclass(v, Method) and v.__module__ == module.__name__
        ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise SteerError(f"plugin file {path}: expected one steer.Method, found {names}; name one as {path}:CLASS")
    return method_class(found[0], name)


def method_class(found: Any, name: object) -> type[Method]:
    """Return a ``Method`` subclass as it is.

    Raises:
        SteerError: if it is something else.
    """
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise SteerError(f"{name!r} is a {type(found).__name__}, expected a steer.Method subclass")
    return found


MethodSpec = str | Method | type[Method]


def method_list(methods: Sequence[MethodSpec] | MethodSpec) -> Sequence[MethodSpec]:
    """Return methods as a list; a single one may be given alone."""
    return [methods] if isinstance(methods, (str, type)) or not isinstance(methods, Sequence) else methods


def make_methods(specs: Sequence[MethodSpec], options: OptionValues, plugins: Plugins) -> list[Method]:
    """Make methods from names, ``./file.py`` references, classes or instances, of which copies are taken.

    Raises:
        SteerError: for an unknown name or options that do not fit.
    """
    methods = []
    for spec in specs:
        if isinstance(spec, Method):
            # one run's notes must not reach another run, which is prepared while the first one computes
            methods.append(copy.copy(spec))
            continue
        cls = find_method(spec, plugins) if isinstance(spec, str) else method_class(spec, spec)
        methods.append(cls(build(cls.Options, options.get(cls.name, {}), cls.name)))
    return methods


def check_names(
    methods: Sequence[MethodSpec], rewards: Sequence[RewardSpec], options: OptionValues, plugins: Plugins
) -> None:
    """Look up every name and validate every option, without loading weights: a typing error shows at once.

    Raises:
        SteerError: see :func:`make_methods` and :func:`make_reward`.
    """
    make_methods(methods, options, plugins)
    check_rewards(rewards, options, plugins)


def check_owners(options: OptionValues, methods: Sequence[Method], rewards: Sequence[RewardSpec]) -> None:
    """Raise if options were given for a plugin that is not active in the run.

    Raises:
        SteerError: naming the option and the plugins that are active.
    """
    active = {method.name for method in methods}
    active |= reward_names(rewards)
    for owner, values in options.items():
        if owner not in active:
            raise SteerError(
                f"option {owner}.{next(iter(values), '')} is for {owner!r}, which is not active"
                f"{nearest(owner, active)} (active: {', '.join(sorted(active)) or 'none'})"
            )
