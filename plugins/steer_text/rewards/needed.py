"""The hub files of text rewards, by their argument; imports no torch."""

from steer.plugin import Needed, Repository, Source


def fluency(argument: str | None) -> list[Needed]:
    """Return the weights of ``fluency:ID``; none for a folder."""
    return _of(argument or "")


def classifier(argument: str | None) -> list[Needed]:
    """Return the weights of ``classifier:ID/LABEL``; none for a folder."""
    return _of((argument or "").rpartition("/")[0])


def _of(source: str) -> list[Needed]:
    # a name that is neither a folder nor a hub id raises an error when it is loaded
    named = Source(source)
    return [Repository(source, option="")] if named.folder is None and named.like_an_id(bare=True) else []
