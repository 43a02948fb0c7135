"""All plugins of a process: installed ones are found by their entry points, each loaded on its own.

A broken third-party plugin is reported and does not stop the others.
"""

import functools
import importlib.metadata
from dataclasses import dataclass, field

import pluggy

from steer.errors import message_of
from steer.registry import registration
from steer.registry.registration import check_hooks, register
from steer.registry.registry import Origin, Registry
from steer.settings.folders import same_directory

GROUP, DISTRIBUTION = "steer", "steer-diffusion"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded."""

    origin: Origin
    reason: str


@dataclass
class Plugins:
    """All plugins of a process: the registry and what failed to load."""

    registry: Registry = field(default_factory=Registry)
    broken: list[Broken] = field(default_factory=list)

    def load_entry_points(self) -> None:
        """Load every installed plugin, steer's own first; a failure is kept in ``broken``."""
        points = importlib.metadata.entry_points(group=GROUP)
        for point in sorted(points, key=lambda p: (p.dist is None or p.dist.name != DISTRIBUTION, p.name)):
            dist = point.dist
            origin = Origin(point.name, dist.version if dist else "", f"{dist.name if dist else '?'} ({point.value})")
            try:
                with same_directory():
                    self.add(point.load(), origin)
            except (Exception, SystemExit) as error:
                self.broken.append(Broken(origin, f"{type(error).__name__}: {message_of(error, 400)}"))

    def add(self, plugin: object, origin: Origin) -> None:
        """Register everything that one plugin provides, or nothing.

        Raises:
            SteerError: for a name taken twice, or a function named like a hook but not marked as one.
        """
        manager = pluggy.PluginManager(registration.PROJECT)
        manager.add_hookspecs(registration)
        check_hooks(plugin, origin.plugin)
        staged = Registry({kind: dict(known) for kind, known in self.registry.entries.items()}, origin)
        register(manager, plugin, origin.plugin)
        manager.hook.steer_register(registry=staged)
        self.registry.entries = staged.entries


@functools.cache
def manager() -> Plugins:
    """Return this process's plugins, loading installed ones at the first call."""
    plugins = Plugins()
    plugins.load_entry_points()
    return plugins
