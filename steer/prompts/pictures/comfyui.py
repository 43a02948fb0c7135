"""ComfyUI's graphs: from the sampler back to its text.

The API form (``prompt``) was run; the editor's form (``workflow``) is converted to it. Unknown nodes are followed only
through what they pass on: a language model's instruction, a file's name or a note is not a prompt.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_PROMPT = 100_000
"""Characters of a joined text: a chain of joins can double it at every node."""

_ENCODED = (
    "populated_text", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama", "bert", "mt5xl", "prompt",
    "user_prompt", "positive_prompt",
)  # fmt: skip
"""Inputs of text encoders besides ``text``."""
_STRINGS = ("value", "text", "string", "prompt", "positive", "positive_prompt", "str")
_PART = re.compile(r"(?:string|text|str|prompt)_?(?:[a-z]|\d+)")
_MADE_UP = re.compile(
    r"llm|gpt|ollama|gemini|claude|vlm|chat|agent|enhanc|expand|generat|wildcard|random|transl|florence|caption|interrog"
    r"|tag|load|fetch|http|url|file|path|from|search|styl|preset|templat|format|list|(?<!multi)line|split|slic|pick"
    r"|select|switch|index|cycle|queue|schedul|csv|json|pars|extract|regex|replac|remov|filter|trim|strip|truncat"
    r"|upper|lower|case|convert|sort|shuffl|revers|eval|script|python"
)
"""Nodes whose output is not their own text."""
_PASSES = re.compile(r"reroute|show|preview|display|primitive|getnode|setnode")
_WIDGETS = {
    "CLIPTextEncodeSDXL": ("", "", "", "", "", "", "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("", "", "", "text"),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl"),
    "CLIPTextEncodeHiDream": ("clip_l", "clip_g", "t5xxl", "llama"),
    "CLIPTextEncodeHunyuanDiT": ("bert", "mt5xl"),
    "CLIPTextEncodeLumina2": ("", "user_prompt"),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
}
"""Names of the values that the editor's form lists without them."""
_CHANGED = re.compile(r"[{}]|//|/\*")
"""Choices and comments, which the editor resolves before it runs a graph."""
_MUTED, _BYPASSED = 2, 4

Link = tuple[str, int]
"""A node's id and the number of its output."""


class NoPromptError(Exception):
    """A tool's text does not determine the prompt; the message says why."""

    def __init__(self, tool: str, why: str) -> None:
        super().__init__(why)
        self.tool = tool


@dataclass(frozen=True)
class Node:
    """A node by its class, with its values and links by input."""

    kind: str
    inputs: Mapping[str, Any]


def prompt_of_graph(data: Any) -> str | None:
    """Return the positive prompt of a graph in either form; ``None`` if the data are not a graph.

    Raises:
        NoPromptError: if no text, or several different ones, can be the prompt.
    """
    nodes = _api_nodes(data) or _editor_nodes(data)
    if not nodes:
        return None
    try:
        texts, known = _Reader(nodes).positive()
    except RecursionError:
        raise NoPromptError("ComfyUI", "its graph is too deep") from None
    if len(texts) > 1:
        shown = " and ".join(repr(text[:40]) for text in texts[:2])
        raise NoPromptError("ComfyUI", f"its graph holds {len(texts)} different positive prompts: {shown}")
    if not known or not texts:
        raise NoPromptError("ComfyUI", "its graph does not say which text is the prompt")
    return texts[0]


class _Reader:
    """Follows a graph's links. Every output is visited once, which also ends circles."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._known = True
        self._texts: dict[Link, tuple[str, ...]] = {}
        self._strings: dict[str, str | None] = {}

    def positive(self) -> tuple[list[str], bool]:
        """Return the distinct texts that condition the samplers, and whether all of them could be followed."""
        found: dict[str, None] = {}
        for sampler in self._samplers():
            found |= dict.fromkeys(self._conditions(sampler.inputs))
        filled = [text for text in found if text.strip()]
        return filled or list(found)[:1], self._known

    def _samplers(self) -> list[Node]:
        """Return the samplers behind the saved pictures; those of forgotten branches only if there are no others."""
        used = {link[0] for node in self._nodes.values() for link in _links(node.inputs.values())}
        ends = {key: node.kind.lower() for key, node in self._nodes.items() if key not in used}
        for sign in ("save", "preview|image", ""):
            reached = self._upstream(key for key, kind in ends.items() if re.search(sign, kind))
            for test in (_is_sampler, _samples_too):
                found = [node for node in reached if test(node)]
                if found:
                    return found
        return [node for node in self._nodes.values() if _is_sampler(node)]  # all within circles

    def _upstream(self, keys: Iterable[str]) -> list[Node]:
        waiting, seen = list(keys), set()
        while waiting:
            key = waiting.pop()
            if key in seen or key not in self._nodes:
                continue
            seen.add(key)
            waiting += [link[0] for link in _links(self._nodes[key].inputs.values())]
        return [node for key, node in self._nodes.items() if key in seen]

    def _conditions(self, inputs: Mapping[str, Any], negative: bool = False) -> tuple[str, ...]:
        """Return the texts behind a node's conditioning inputs: the positive one's, or the negative one's."""
        wanted = "negative" if negative else "positive"
        if wanted in inputs:
            names = [wanted]
        else:
            names = [name for name in inputs if re.match(r"cond(?:itioning)?(?:_?\w+)?$|guider$", name)]
            names = names or [name for name in inputs if "pipe" in name][:1]
        found: dict[str, None] = {}
        for name in names:
            if isinstance(inputs[name], str):
                found[inputs[name]] = None
            elif (link := _link(inputs[name])) is not None:
                found |= dict.fromkeys(self._condition(link))
        self._known &= bool(names)
        return tuple(found)

    def _condition(self, link: Link) -> tuple[str, ...]:
        if link not in self._texts:
            self._texts[link] = ()
            self._texts[link] = self._behind(link)
        return self._texts[link]

    def _behind(self, link: Link) -> tuple[str, ...]:
        node = self._nodes.get(link[0])
        if node is None:
            self._known = False
            return ()
        kind, inputs = node.kind.lower(), node.inputs
        if "zeroout" in kind:
            return ()
        if "encode" in kind or "clip" in inputs:
            names = ["text"] if "text" in inputs else [name for name in _ENCODED if name in inputs]
            if names:
                texts = [self._string(inputs[name]) for name in names]
                self._known &= None not in texts
                known = dict.fromkeys(text for text in texts if text is not None)
                return tuple(text for text in known if text.strip()) or tuple(known)[:1]
        positive = inputs.get("positive")
        if isinstance(positive, str) or (_link(positive) is not None and "ckpt_name" in inputs):
            text = self._string(positive)  # a loader that takes the prompt itself (Efficiency Nodes)
            self._known &= text is not None
            return () if text is None else (text,)
        links = _links(inputs.values())
        if _PASSES.search(kind) and len(links) == 1:
            return self._condition(links[0])
        # nodes with both inputs pass on the positive one first
        return self._conditions(inputs, negative=link[1] == 1 and "negative" in inputs)

    def _string(self, value: Any) -> str | None:
        """Return a text, or the one that a link brings; ``None`` if it is unknown before the graph runs."""
        if isinstance(value, str):
            return value
        link = _link(value)
        if link is None:
            return None
        if link[0] not in self._strings:
            self._strings[link[0]] = None
            node = self._nodes.get(link[0])
            self._strings[link[0]] = None if node is None else self._string_of(node)
        return self._strings[link[0]]

    def _string_of(self, node: Node) -> str | None:
        kind, inputs = node.kind.lower(), node.inputs
        populated = inputs.get("populated_text")
        if isinstance(populated, str):
            return populated
        if "concat" in kind or "join" in kind:
            return self._joined(inputs)
        links = _links(inputs.values())
        if _PASSES.search(kind) and len(links) == 1:
            return self._string(list(links[0]))
        plain = [name for name, value in inputs.items() if isinstance(value, str)]
        numbers = [value for value in inputs.values() if isinstance(value, int | float) and not isinstance(value, bool)]
        constant = len(plain) == 1 and plain[0].lower() in _STRINGS and not links and not numbers
        return inputs[plain[0]] if constant and not _MADE_UP.search(kind) else None

    def _joined(self, inputs: Mapping[str, Any]) -> str | None:
        names = sorted((name for name in inputs if _PART.fullmatch(name.lower())), key=lambda name: (len(name), name))
        parts = [self._string(inputs[name]) for name in names]
        if not parts or None in parts:
            return None
        between = next((inputs[name] for name in ("delimiter", "separator") if name in inputs), "")
        texts = [part for part in parts if part]
        if not isinstance(between, str) or sum(map(len, texts)) + len(texts) * len(between) > MAX_PROMPT:
            return None
        return between.replace("\\n", "\n").join(texts)


def _is_sampler(node: Node) -> bool:
    return "sampler" in node.kind.lower() and any(
        name in ("positive", "guider") or "pipe" in name for name in node.inputs if _link(node.inputs[name]) is not None
    )


def _samples_too(node: Node) -> bool:
    """Whether a node of another name draws: a detailer, an upscaler."""
    return _link(node.inputs.get("positive")) is not None and "steps" in node.inputs


def _link(value: Any) -> Link | None:
    """Return a link, which JSON writes as a pair of a node's id and a number."""
    match value:
        case [str() | int() as node, int() as output] if not isinstance(node, bool) and not isinstance(output, bool):
            return str(node), output
    return None


def _links(values: Iterable[Any]) -> list[Link]:
    return [link for value in values if (link := _link(value)) is not None]


def _api_nodes(data: Any) -> dict[str, Node]:
    entries = data.items() if isinstance(data, dict) else ()
    return {
        key: Node(entry["class_type"], entry["inputs"])
        for key, entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("class_type"), str)
        and isinstance(entry.get("inputs"), dict)
    }


def _editor_nodes(data: Any) -> dict[str, Node]:
    """Return the nodes of the editor's form as the API has them."""
    if not (isinstance(data, dict) and isinstance(data.get("nodes"), list)):
        return {}
    links = dict(_editor_links(data.get("links")))
    listed = [node for node in data["nodes"] if isinstance(node, dict) and isinstance(node.get("type"), str)]
    named = {_name(node): node for node in listed if node["type"] == "SetNode"}
    found: dict[str, Node] = {}
    for node in listed:
        if node.get("mode") == _MUTED:
            continue
        inputs = _linked(node, links, bypassed=node.get("mode") == _BYPASSED)
        if node["type"] == "GetNode" and _name(node) in named:
            inputs = _linked(named[_name(node)], links, bypassed=True)
        if node.get("mode") != _BYPASSED:
            inputs = {**_widgets(node), **inputs}
        found[str(node.get("id"))] = Node(node["type"], inputs)
    return found


def _editor_links(links: Any) -> Iterator[tuple[Any, list[Any]]]:
    for link in links if isinstance(links, list) else ():
        match link:
            case [int() | str() as key, int() | str() as origin, int() as output, *_]:
                yield key, [origin, output]
            case {"id": int() | str() as key, "origin_id": int() | str() as origin, "origin_slot": int() as output}:
                yield key, [origin, output]


def _linked(node: Mapping[str, Any], links: Mapping[Any, list[Any]], bypassed: bool) -> dict[str, Any]:
    """Return a node's linked inputs; a bypassed one passes on the first of each type."""
    found: dict[str, Any] = {}
    types: set[Any] = set()
    inputs = node.get("inputs")
    for entry in inputs if isinstance(inputs, list) else ():
        match entry:
            case {"name": str() as name, "link": int() | str() as key} if key in links:
                kind = str(entry.get("type"))
                if not bypassed or kind not in types or name == "negative":
                    found[name] = links[key]
                types.add(kind)
    return found


def _widgets(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's values by name, as far as the names are known and the graph ran with these values."""
    return {name: value for name, value in _named_widgets(node).items() if not _CHANGED.search(value)}


def _named_widgets(node: Mapping[str, Any]) -> dict[str, str]:
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return {key: value for key, value in values.items() if isinstance(value, str)}
    if not isinstance(values, list):
        return {}
    inputs = node.get("inputs")
    names: list[Any] = [
        entry["widget"].get("name")
        for entry in (inputs if isinstance(inputs, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("widget"), dict)
    ]
    if node["type"] in _WIDGETS:
        names = list(_WIDGETS[node["type"]])
    elif len(names) != len(values):
        texts = [value for value in values if isinstance(value, str)]
        return {"text": texts[0]} if len(texts) == 1 else {}
    pairs = zip(names, values, strict=False)
    return {name: value for name, value in pairs if isinstance(name, str) and name and isinstance(value, str)}


def _name(node: Mapping[str, Any]) -> str:
    values = node.get("widgets_values")
    return str(values[0])[:200] if isinstance(values, list) and values else ""
