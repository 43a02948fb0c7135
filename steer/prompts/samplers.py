"""A1111's names of samplers, which its users' rows contain, and our names of the same schedulers."""

from __future__ import annotations

from steer.errors import SteerError

SAMPLERS = {
    "ddim": "ddim",
    "ddpm": "ddpm",
    "deis": "deis",
    "dpm2": "dpm2",
    "dpm2 karras": "dpm2-karras",
    "dpm2 a": "dpm2-a",
    "dpm2 a karras": "dpm2-a-karras",
    "dpm++ 2m": "dpm++",
    "dpm++ 2m karras": "dpm++-karras",
    "dpm++ 2m exponential": "dpm++-exponential",
    "dpm++ 2m sde": "dpm++-sde",
    "dpm++ 2m sde karras": "dpm++-sde-karras",
    "dpm++ 2m sde exponential": "dpm++-sde-exponential",
    "euler": "euler",
    "euler karras": "euler-karras",
    "euler a": "euler-a",
    "heun": "heun",
    "heun karras": "heun-karras",
    "lcm": "lcm",
    "lms": "lms",
    "lms karras": "lms-karras",
    "plms": "pndm",
    "unipc": "unipc",
    "unipc karras": "unipc-karras",
}
"""A1111's names in lower case, and ours."""

FAMILIES = (
    "ddim",
    "dpm adaptive",
    "dpm fast",
    "dpm2",
    "dpm2 a",
    "dpm++ 2m",
    "dpm++ 2m sde",
    "dpm++ 2s a",
    "dpm++ 3m sde",
    "dpm++ sde",
    "euler",
    "euler a",
    "heun",
    "heunpp2",
    "ipndm",
    "ipndm_v",
    "lms",
    "restart",
    "unipc",
)
"""A1111's samplers that it combines with schedules; steer does not have all of them."""

SCHEDULES = (
    "align your steps",
    "automatic",
    "beta",
    "ddim",
    "exponential",
    "kl optimal",
    "karras",
    "normal",
    "polyexponential",
    "sgm uniform",
    "simple",
    "turbo",
    "uniform",
)
"""A1111's schedules of noise levels: the last words of a sampler's name, or a separate key."""

_DEFAULT = ("automatic", "uniform")


def scheduler_of(name: str, schedule: str | None, where: str) -> str:
    """Return our name for A1111's name of a scheduler; any other name is returned unchanged.

    Args:
        name: such as ``"DPM++ 2M Karras"``.
        schedule: A1111's schedule, such as ``"Karras"``, if a separate key gives it.
        where: the row, for messages.

    Raises:
        SteerError: for an A1111 sampler that steer does not have: another one would make another image.
    """
    asked = " ".join(name.lower().split())
    low = (
        asked.removeprefix("k_").replace("dpmpp", "dpm++").replace("dpm_2", "dpm2").replace("_", " ")
        if asked.startswith("k_")
        else asked
    )
    if schedule is not None and schedule.strip().lower() not in _DEFAULT:
        low = f"{low} {schedule.strip().lower()}"
    if low in SAMPLERS:
        return SAMPLERS[low]
    if low in FAMILIES or (schedule is not None) or low.startswith(tuple(f"{family} " for family in FAMILIES)):
        told = f"{name[:60]!r} with the schedule {schedule[:60]!r}" if schedule else repr(name[:60])
        raise SteerError(f"{where}: A1111's sampler {told} is not available; expected one of {', '.join(SAMPLERS)}")
    return name
