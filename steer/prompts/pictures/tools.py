"""Finding the tool and the prompt of a text: A1111, ComfyUI, InvokeAI, Fooocus, SwarmUI, NovelAI and others.

Formats as their tools write them in 2022 to 2026; docs/compatibility.md lists the tried ones.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steer.prompts.pictures.carriers import MAX_TEXT
from steer.prompts.pictures.comfyui import NoPromptError, prompt_of_graph

_LINES = re.compile(r"\r\n|\r|\n")
_SETTINGS = re.compile(r"Steps: \d+\s*(?:,|$)")
_JSON = re.compile(r'\s*(?:\{\s*["}]|\[\s*[{"])')
"""How JSON begins. A1111's prompts begin with ``[[`` and Dynamic Prompts' with ``{``, but no quote follows there."""
_PAIR = re.compile(r'"[\w-]+"\s*:\s*["\[{]')
"""What JSON that lost its beginning still holds."""
_GRAPH = re.compile(r"(prompt|workflow):\s*(?=\{)", re.IGNORECASE)
"""What ComfyUI puts before a graph in EXIF."""
_DREAM = re.compile(r'\s*"((?:[^"\\]|\\.)*+)"\s+-')


@dataclass(frozen=True)
class Embedded:
    """The prompt in a picture's texts.

    Attributes:
        text: the prompt; ``None`` if it cannot be determined.
        tool: the format's tool.
        why: the reason if there is no prompt.
    """

    text: str | None
    tool: str
    why: str = ""


def embedded_prompt(texts: Mapping[str, str]) -> Embedded | None:
    """Return the prompt in a picture's texts, or the reason why there is none; ``None`` without a tool's text.

    Args:
        texts: by name, as :func:`steer.prompts.pictures.carriers.texts_of` returns them.
    """
    by_name = {name.lower(): text for name, text in texts.items() if len(text) <= MAX_TEXT}
    for name, text in list(by_name.items()):
        if name.startswith("exif:") and (sign := _GRAPH.match(text)):
            by_name.setdefault(sign[1].lower(), text[sign.end() :])
    for read in (_invokeai, _parameters, _comfyui, _marked, _plain):
        try:
            found = read(by_name)
        except NoPromptError as error:
            return Embedded(None, error.tool, str(error))
        if found is not None:
            tool, text = found
            return _checked(tool, text)
    return None


Found = tuple[str, str] | None
"""A tool and its prompt."""


def _checked(tool: str, text: str) -> Embedded:
    text = text.strip()
    if not text:
        return Embedded(None, tool, "the prompt is empty")
    try:
        text.encode()  # JSON can spell invalid characters
    except UnicodeEncodeError:
        return Embedded(None, tool, "the prompt is not Unicode")
    if "\0" in text or looks_like_data(text):
        return Embedded(None, tool, "the prompt is not text")
    return Embedded(text, tool)


def looks_like_data(text: str) -> bool:
    """Whether a text is JSON or XML, whole or damaged, and so not a prompt."""
    if _JSON.match(text) or _PAIR.search(text):
        return True
    return re.match(r"\s*<(?:\?xml|x:xmpmeta|rdf:RDF)", text) is not None


def without_settings(text: str) -> str | None:
    """Return the prompt of A1111's ``parameters`` text; ``None`` if it has neither a negative prompt nor settings."""
    lines = _LINES.split(text)
    for number, line in enumerate(lines):
        if line.startswith("Negative prompt:") or _SETTINGS.match(line):
            return "\n".join(lines[:number])
    return None


def _invokeai(texts: Mapping[str, str]) -> Found:
    for name in ("invokeai_metadata", "sd-metadata", "dream"):
        if name not in texts:
            continue
        data = _loaded(texts[name])
        text = None
        if name == "invokeai_metadata":
            text = data.get("positive_prompt")
        elif name == "sd-metadata":
            image = data.get("image")
            text = image.get("prompt") if isinstance(image, dict) else None
            if isinstance(text, list):
                parts = [part.get("prompt") for part in text if isinstance(part, dict)]
                if len(parts) > 1:
                    raise NoPromptError("InvokeAI", f"it holds {len(parts)} weighted prompts")
                text = parts[0] if parts else None
        elif dream := _DREAM.match(texts[name]):
            text = re.sub(r"\\(.)", r"\1", dream[1])
        if isinstance(text, str):
            # before version 3, a negative prompt stood in brackets
            return "InvokeAI", text if name == "invokeai_metadata" else re.sub(r"\s*\[[^\[\]]*\]", "", text)
    return None


def _parameters(texts: Mapping[str, str]) -> Found:
    text = texts.get("parameters", "")
    if not text.strip():
        return None
    if looks_like_data(text):
        return _from_data(_loaded(text))
    prompt = without_settings(text)
    return "A1111", text if prompt is None else prompt


def _comfyui(texts: Mapping[str, str]) -> Found:
    for name in ("prompt", "workflow"):
        text = prompt_of_graph(_loaded(texts.get(name, "")))
        if text is not None:
            return "ComfyUI", text
    return None


def _marked(texts: Mapping[str, str]) -> Found:
    """Read texts that many programs write; only a tool's own marks count."""
    for name, text in texts.items():
        if not (name in ("comment", "description", "usercomment") or name.startswith(("exif:", "xmp:"))):
            continue
        if _JSON.match(text):
            found = _from_data(_loaded(text))
            if found is not None:
                return found
        elif (prompt := without_settings(text)) is not None:
            return "A1111", prompt
    software = texts.get("software", "") + texts.get("exif:software", "")
    description = texts.get("description", "")
    return ("NovelAI", description) if "NovelAI" in software and description else None


def _plain(texts: Mapping[str, str]) -> Found:
    """Read a text that is named as the prompt (Easy Diffusion)."""
    text, whole = texts.get("prompt", ""), {"negative_prompt", "negative prompt"} & texts.keys()
    return ("Easy Diffusion", text) if whole and text.strip() and not looks_like_data(text) else None


def _from_data(data: Mapping[str, Any]) -> Found:
    for tool, read in _DATA.items():
        text = read(data)
        if isinstance(text, str):
            return tool, text
    return None


def _swarmui(data: Mapping[str, Any]) -> Any:
    inner = data.get("sui_image_params")
    return inner.get("prompt") if isinstance(inner, dict) else None


def _novelai(data: Mapping[str, Any]) -> Any:
    whole = data.get("v4_prompt")
    caption = whole.get("caption") if isinstance(whole, dict) else None
    if isinstance(caption, dict) and isinstance(caption.get("base_caption"), str):
        people = caption.get("char_captions")
        each = [one.get("char_caption") for one in people if isinstance(one, dict)] if isinstance(people, list) else []
        # as NovelAI itself writes a prompt with characters on one line
        return " | ".join([caption["base_caption"], *(one for one in each if isinstance(one, str) and one.strip())])
    return data.get("prompt") if "uc" in data else None


def _named(key: str, negative: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda data: data.get(key) if negative in data else None


def _graphs(data: Mapping[str, Any]) -> str | None:
    for graph in (data.get("prompt"), data.get("workflow"), data):
        text = prompt_of_graph(_loaded(graph) if isinstance(graph, str) else graph)
        if text is not None:
            return text
    return None


_DATA: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "SwarmUI": _swarmui,
    "NovelAI": _novelai,
    "Draw Things": _named("c", "uc"),
    "Fooocus": _named("prompt", "negative_prompt"),
    "Fooocus or Easy Diffusion": _named("Prompt", "Negative Prompt"),
    "ComfyUI": _graphs,
}
"""Return the prompt in a tool's JSON, if it is that tool's."""


def _loaded(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # damaged, nested beyond reason, a number of thousands of digits
        return {}
    return data if isinstance(data, dict) else {}
