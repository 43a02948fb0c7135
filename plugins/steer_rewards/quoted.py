"""The texts that a prompt quotes: what an image of it should show in letters."""

import re

from steer import Prompt, SteerError

KEY = "ocr"
"""Key of a prompt's row that lists the texts, instead of quotes in the prompt."""

_PAIRS = ("“”", "„“", "„”", "«»", "»«", "‹›", "「」", "『』", "‘’", "＂＂")
_BETWEEN = "|".join(f"{pair[0]}([^{pair}]*){pair[1]}" for pair in _PAIRS)
# a straight quote after a letter or a digit is an apostrophe or an inch, and so is a single one between two letters
_QUOTED = re.compile(
    rf"""(?<!\w)"([^"]*)"|{_BETWEEN}|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))+)'(?!\w)""",
)


def quoted_texts(prompt: str) -> list[str]:
    """Return the texts between quotes of any usual kind, in order and each once; spaces become single ones.

    >>> quoted_texts('a bar\\'s sign "OPEN" above a 12" record called «So What»')
    ['OPEN', 'So What']
    """
    found = (next(group for group in match.groups() if group is not None) for match in _QUOTED.finditer(prompt))
    return list(dict.fromkeys(text for part in found if (text := " ".join(part.split()))))


def wanted_texts(prompt: Prompt | str) -> list[str]:
    """Return the texts that an image should show: the row's own, else those that the prompt quotes.

    Raises:
        SteerError: naming the prompt, if there are none, or the row holds something else.
    """
    where = f"prompt {str(prompt)[:60]!r} (id {getattr(prompt, 'id', '-')})"
    given = getattr(prompt, "metadata", {}).get(KEY)
    if given is None:
        found = quoted_texts(prompt)
        if not found:
            raise SteerError(
                f"ocr: {where} quotes no text; write what the image should show in quotes, as in a sign that says "
                f'"OPEN", or list it in the prompt\'s row as "{KEY}": ["OPEN"]'
            )
        return found
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise SteerError(f'{where}: got {given!r} as {KEY!r}, expected a text or a list of texts, as in ["OPEN"]')
    return list(dict.fromkeys(texts))
