"""The settings of a run, each with the user, the method or the model that chose it."""

from collections.abc import Mapping
from typing import Any

from steer.errors import SteerError
from steer.settings.run_settings import SETTINGS, applies, check_modality, check_setting


class Choices:
    """Settings by priority: a required value, else a suggested one, else the model's default."""

    def __init__(self, asked: Mapping[str, Any], defaults: Mapping[str, Any], modality: str) -> None:
        """Take the user's settings.

        Args:
            asked: what the user asked for; ``None`` values mean "not asked".
            defaults: values of settings that neither the user nor a method chooses.
            modality: of the model's output.

        Raises:
            SteerError: for a value out of range, or a setting that the model does not have.
        """
        self._modality = modality
        self._defaults = defaults
        self._required: dict[str, tuple[Any, str]] = {}
        self._suggested: dict[str, tuple[Any, str]] = {}
        for name, value in asked.items():
            if value is not None:
                self.set(name, value, by="you")

    def get(self, name: str) -> Any:
        """Return a setting: the user's, else a method's, else one suggested, else the model's default."""
        for source in (self._required, self._suggested):
            if name in source:
                return source[name][0]
        if name == "eta" and ("scheduler" in self._required or "scheduler" in self._suggested):
            return None  # the model's is meant for its own scheduler
        return self._defaults.get(name)

    def set(self, name: str, value: Any, *, by: str) -> None:
        """Require a value; a conflict with the user or another method is an error that names both."""
        check_setting(name, value)
        check_modality(name, self._modality)
        taken = self._required.get(name)
        if taken is not None and taken[0] != value:
            raise SteerError(
                f"{by} needs {name}={value!r}, but {taken[1]} asked for {name}={taken[0]!r}; drop one of the two"
            )
        self._required[name] = (value, by)

    def suggest(self, name: str, value: Any, *, by: str) -> None:
        """Offer a value that holds unless the user or a method requires another."""
        check_setting(name, value)
        self._suggested.setdefault(name, (value, by))

    def required(self, name: str) -> tuple[Any, str] | None:
        """Return the value that is required of a field and by whom (``"you"``, a method), or ``None``."""
        return self._required.get(name)

    def all(self) -> dict[str, Any]:
        """Return every setting, ``None`` if it has no value."""
        return {name: self.get(name) for name in SETTINGS}

    def resolved(self) -> dict[str, Any]:
        """Return every setting for the recipe, ``None`` for those of another modality."""
        return {name: value if applies(name, self._modality) else None for name, value in self.all().items()}
