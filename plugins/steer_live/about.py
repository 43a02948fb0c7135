"""What a server offers, for its page: the model, methods with their options, rewards."""

from __future__ import annotations

from typing import Any

from steer import Options, SteerError
from steer.plugin import describe, manager
from steer_live.asked import Offer, may_be_set


def about(offer: Offer) -> dict[str, Any]:
    """Return it as plain data."""
    backbone, values = offer.sampler.backbone, offer.values
    defaults = offer.sampler.model.defaults
    steps = values.get("steps") or defaults.get("steps") or backbone.default_steps
    guidance = values.get("guidance") or defaults.get("guidance_scale") or backbone.default_guidance
    return {
        "model": offer.model,
        "modality": backbone.modality,
        "device": str(backbone.device),
        "steps": steps,
        "guidance": guidance,
        "particles": values.get("particles"),
        "takes_image": "image" in backbone.call_inputs,
        "methods": _methods(offer),
        "rewards": _rewards(offer),
        "method": offer.methods[0] if offer.methods else None,
        "reward": "+".join(offer.rewards) or _own_reward(offer),
    }


def _methods(offer: Offer) -> list[dict[str, Any]]:
    found = []
    for name, entry in sorted(manager().registry.methods.items()):
        try:
            method = entry.load()
        except SteerError:  # a broken plugin is reported by steer plugins
            continue
        declared = getattr(method, "Options", Options)
        options = [
            {"name": row.name, "type": row.type, "default": row.default, "meaning": row.meaning}
            for row in describe(declared)
            if may_be_set(declared, row.name)
        ]
        found.append(
            {
                "name": name,
                "summary": entry.summary,
                "budget": method.budget_option is not None,
                "least": method.least_particles,
                "independent": method.independent,
                "options": options,
            }
        )
    known = {method["name"] for method in found}
    ours = [
        {"name": name, "summary": "", "budget": False, "least": 1, "independent": False, "options": []}
        for name in offer.methods
    ]
    return [*(one for one in ours if one["name"] not in known), *found]


def _rewards(offer: Offer) -> list[dict[str, str]]:
    registered = manager().registry.rewards
    ours = [{"name": name, "summary": "of this server"} for name in offer.rewards if name not in registered]
    return [*ours, *({"name": name, "summary": entry.summary} for name, entry in sorted(registered.items()))]


def _own_reward(offer: Offer) -> str | None:
    """Return the reward that a model brings for itself, under its name: a world whose truth is known has one."""
    return offer.model if offer.model in manager().registry.rewards else None
