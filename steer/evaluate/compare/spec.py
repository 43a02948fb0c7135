"""Specs of methods to compare: parses methods with their options and the values that these are swept over.

fk                           a method with its defaults
plain                        none
fk:particles=4,lambda=5      options of the method; a name that it doesn't have is a setting of the run
best-of-n:steps=5|10|20      three variants, a curve
dmd2+fk:dmd2.steps=4         several methods, outermost first
early=fk:at=1,2,3            with a name of its own
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from steer.errors import SteerError
from steer.registry.plugins import Plugins
from steer.sampling.chosen_particles import CHOICES
from steer.sampling.methods_by_name import find_method
from steer.settings.options import build, describe, parse_assignments
from steer.settings.run_settings import SETTINGS, canonical, check_setting

PLAIN = "plain"
SHAPE = re.compile(r"(?:(?P<label>[^:=]+)=)?(?P<methods>.+?)(?::(?P<options>[\w.-]+=.*))?", re.DOTALL)
Address = tuple[str | None, str]
"""The owner of an option and its name; a setting of the run has no owner."""
EXAMPLE = "fk:particles=4,lambda=5, plain, dmd2+fk or NAME=fk:lambda=5"


@dataclass(frozen=True)
class Entry:
    """One way of sampling.

    Attributes:
        label: its name.
        family: its name without swept values; the variants of a family form a curve.
        methods: names or file references, outermost first.
        options: of methods, by owner.
        settings: of the run.
        choose: how the result is chosen; ``None`` for the default.
        swept: the swept values of this variant.
    """

    label: str
    family: str
    methods: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    choose: str | None = None
    swept: Mapping[str, str] = field(default_factory=dict)

    def with_option(self, owner: str, name: str, value: Any) -> Entry:
        """Return it with one more option of a method."""
        options = {other: dict(table) for other, table in self.options.items()}
        options.setdefault(owner, {})[name] = value
        return replace(self, options=options)

    def with_setting(self, name: str, value: Any) -> Entry:
        """Return it with one more setting of the run."""
        return replace(self, settings={**self.settings, name: value})


def parse_entries(specs: Sequence[str], assignments: Iterable[str], plugins: Plugins) -> list[Entry]:
    """Return the entries of specs; a swept spec gives one entry per value.

    Args:
        specs: as typed; see the module.
        assignments: ``OWNER.OPTION=VALUE[,VALUE…]``, for all entries with the owner, which is a method or an entry's
            name; several values are a sweep unless the option takes a list.

    Raises:
        SteerError: for another form, an unknown name, an invalid value, or a name that two entries share.
    """
    given = parse_assignments(assignments)
    used: set[str] = set()
    entries = [entry for spec in specs for entry in _variants(spec, given, used, plugins)]
    unused = [owner for owner in given if owner not in used]
    if unused:
        known = ", ".join(dict.fromkeys(name for e in entries for name in (e.family, *_owners(e.methods, plugins))))
        raise SteerError(f"option {unused[0]}.{next(iter(given[unused[0]]))} belongs to no compared method ({known})")
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise SteerError(f"method {label!r} is given twice; name one of them, as in other={label}")
    return entries


def _variants(spec: str, given: Mapping[str, Mapping[str, str]], used: set[str], plugins: Plugins) -> list[Entry]:
    match = SHAPE.fullmatch(spec.strip())
    if match is None:
        raise SteerError(f"method {spec!r} is not of the form [NAME=]METHOD[+METHOD][:OPTION=VALUE,…], as in {EXAMPLE}")
    methods = tuple(name.strip() for name in match["methods"].split("+"))
    if methods == (PLAIN,):
        methods = ()
    owners = _owners(methods, plugins)
    family = (match["label"] or match["methods"]).strip()
    values: dict[Address, list[str]] = {}
    for part in re.split(r",(?=[\w.-]+=)", match["options"] or ""):
        if part:
            key, _, text = part.partition("=")
            address = _address(key, owners, spec)
            if address in values:
                raise SteerError(f"method {spec!r}: {key} is given twice; give it once, several values as in {key}=2|5")
            values[address] = [value.strip() for value in text.split("|")]
    for owner, table in given.items():
        if owner not in (*owners, family):
            continue
        used.add(owner)
        for name, text in table.items():
            address = _address(f"{owner}.{name}" if owner in owners else name, owners, spec)
            listed = "," in text and not _takes_list(address, owners)
            values[address] = [value.strip() for value in text.split(",")] if listed else [text]
    base = Entry(family, family, methods)
    choices = (dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))
    return [_entry(base, chosen, values, owners) for chosen in choices]


def _entry(
    base: Entry, chosen: Mapping[Address, str], offered: Mapping[Address, list[str]], owners: Mapping[str, Any]
) -> Entry:
    entry = base
    shown_bare = (None, *list(owners)[:1])
    swept = {
        name if owner in shown_bare else f"{owner}.{name}": value
        for (owner, name), value in chosen.items()
        if len(offered[owner, name]) > 1
    }
    for (owner, name), value in chosen.items():
        if owner is not None:
            entry = entry.with_option(owner, name, value)
        elif name == "choose":
            if value not in CHOICES:
                raise SteerError(f"choose={value!r}: expected {', '.join(CHOICES)}")
            entry = replace(entry, choose=value)
        else:
            entry = entry.with_setting(name, _setting(name, value))
    for owner, table in entry.options.items():
        build(owners[owner].Options, table, owner)
    label = " ".join([base.label, *(f"{name}={value}" for name, value in swept.items())])
    return replace(entry, label=label, swept=swept)


def _owners(methods: Sequence[str], plugins: Plugins) -> dict[str, Any]:
    found = [find_method(name, plugins) for name in methods]
    return {cls.name: cls for cls in found}


def _address(key: str, owners: Mapping[str, Any], spec: str) -> Address:
    """Return the owner of an option: the method before the dot, the first method that has it, or the run."""
    owner, dot, name = key.rpartition(".")
    if dot:
        if owner not in owners:
            known = ", ".join(owners) or PLAIN
            raise SteerError(f"method {spec!r}: {key} is for {owner!r}, which is not part of it ({known})")
        if canonical(name) not in SETTINGS or _has(owners[owner], name):
            return owner, name  # validation reports an unknown one
    for owner, cls in owners.items():
        if _has(cls, name):
            return owner, name
    name = canonical(name)
    if name not in SETTINGS and name != "choose":
        options = [f"{owner}.{row.name}" for owner, cls in owners.items() for row in describe(cls.Options)]
        raise SteerError(
            f"method {spec!r}: unknown option {name!r}; expected one of {', '.join([*options, *SETTINGS, 'choose'])}"
        )
    return None, name


def _has(cls: Any, name: str) -> bool:
    return any(row.name == name for row in describe(cls.Options))


def _takes_list(address: Address, owners: Mapping[str, Any]) -> bool:
    owner, name = address
    if owner is None:
        return name in SETTINGS and SETTINGS[name].kind == (tuple,)
    return any(row.name == name and ",…" in row.type for row in describe(owners[owner].Options))


def _setting(name: str, text: str) -> Any:
    kinds = SETTINGS[name].kind
    value: Any = text
    try:
        if tuple in kinds:
            value = tuple(int(part) for part in text.split(","))
        elif float in kinds:
            value = float(text)
        elif int in kinds:
            value = int(text)
    except ValueError:
        pass  # the check's message says what is expected
    check_setting(name, value)
    return value
