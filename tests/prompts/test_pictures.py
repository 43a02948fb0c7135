"""Prompts in pictures of other tools: the right one, or none; never another text."""

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from steer.prompts.pictures.carriers import MAX_TEXT, texts_of
from steer.prompts.pictures.tools import Embedded, embedded_prompt

DATA = Path(__file__).parent / "data" / "pictures"
A1111 = "a red circle, {tone}\non white\nNegative prompt: a dog\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 64x64"
PROMPT = "a red circle, {tone}\non white"
TONES = ("plain", "für Ärzte", "赤い円", "دائرة حمراء", "🔴 红")
USER_COMMENT, EXIF = 0x9286, 0x8769


def found(**texts: Any) -> Embedded | None:
    plain = {key.replace("__", "-"): text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()}
    return embedded_prompt(plain)


def prompt(**texts: Any) -> str | None:
    embedded = found(**texts)
    return None if embedded is None else embedded.text


def why(**texts: Any) -> str:
    embedded = found(**texts)
    assert embedded is not None and embedded.text is None
    return embedded.why


def reopened(form: str, **options: Any) -> Image.Image:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, form, **options)
    image = Image.open(file)
    image.load()
    return image


def read(form: str, **options: Any) -> Embedded | None:
    return embedded_prompt(texts_of(reopened(form, **options)))


def png(*chunks: tuple[bytes, bytes]) -> Image.Image:
    """A PNG with chunks as other programs write them, which Pillow would not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    image = Image.open(BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)))
    image.load()
    return image


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("swarm.png", "a red circle"),
        ("comfy.png", "a red circle"),
        ("a1111_lora.png", "a red circle <lora:foo:0.8> (shiny:1.2)"),
    ],
)
def test_the_pictures_of_practice(name: str, right: str) -> None:
    with Image.open(DATA / name) as image:
        embedded = embedded_prompt(texts_of(image))
    assert embedded is not None and embedded.text == right


@pytest.mark.parametrize("tone", TONES)
def test_png_texts_of_every_kind_and_encoding(tone: str) -> None:
    text, right = A1111.format(tone=tone), PROMPT.format(tone=tone)
    raw = text.encode()
    for chunk in (
        (b"tEXt", b"parameters\0" + raw),  # Latin-1 by the book, UTF-8 in practice
        (b"zTXt", b"parameters\0\0" + zlib.compress(raw)),
        (b"iTXt", b"parameters\0\0\0\0\0" + raw),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(raw)),
    ):
        embedded = embedded_prompt(texts_of(png(chunk)))
        assert embedded == Embedded(right, "A1111"), chunk
    latin = embedded_prompt(texts_of(png((b"tEXt", b"parameters\0" + "für\nSteps: 1, ".encode("latin-1")))))
    assert latin == Embedded("für", "A1111")


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "PNG"])
@pytest.mark.parametrize("tone", TONES)
def test_exif_comments_in_every_encoding(form: str, tone: str) -> None:
    text, right = A1111.format(tone=tone), PROMPT.format(tone=tone)
    encoded = [
        b"UNICODE\0" + text.encode("utf-16-be"),
        b"UNICODE\0" + text.encode("utf-16-le"),
        b"UNICODE\0" + text.encode("utf-16"),
        b"ASCII\0\0\0" + text.encode(),
        b"\0" * 8 + text.encode(),
    ]
    if tone == "赤い円":
        encoded.append(b"JIS\0\0\0\0\0" + text.encode("iso2022_jp"))
    if text.isascii():
        encoded.append(b"UNICODE\0" + text.encode())  # the wrong name
    for value in encoded:
        exif = Image.Exif()
        exif[0x0131] = "a tool"
        exif.get_ifd(EXIF)[USER_COMMENT] = value
        assert read(form, exif=exif) == Embedded(right, "A1111"), value[:12]


def test_the_byte_order_of_a_text_without_ascii() -> None:
    for order in ("be", "le"):
        data = json.dumps({"sui_image_params": {"prompt": "赤い円の絵"}}, ensure_ascii=False)
        exif = Image.Exif()
        exif.get_ifd(EXIF)[USER_COMMENT] = b"UNICODE\0" + data.encode(f"utf-16-{order}")
        assert read("JPEG", exif=exif) == Embedded("赤い円の絵", "SwarmUI")


def test_other_carriers() -> None:
    exif = Image.Exif()
    exif[0x010E] = A1111.format(tone="plain")
    assert read("JPEG", exif=exif) == Embedded(PROMPT.format(tone="plain"), "A1111")
    assert read("JPEG", comment=json.dumps(FOOOCUS).encode()) == Embedded("a red circle", "Fooocus")
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/"><rdf:Description><exif:UserComment><rdf:Alt><rdf:li>'
        '{"c": "a red circle", "uc": "a dog"}'
        "</rdf:li></rdf:Alt></exif:UserComment></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    for form in ("JPEG", "WEBP", "AVIF"):
        assert read(form, xmp=xmp.encode()) == Embedded("a red circle", "Draw Things")
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    assert read("PNG", pnginfo=info) == Embedded("a red circle", "Draw Things")


def test_a_photo_has_no_prompt() -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x010F], exif[0x0110] = "OLYMPUS DIGITAL CAMERA", "Apple", "iPhone"
    exif.get_ifd(EXIF)[USER_COMMENT] = b"ASCII\0\0\0Screenshot"
    assert read("JPEG", exif=exif, comment=b"Created with GIMP") is None
    assert found(Description="a holiday", Software="GIMP", Comment="{}") is None


FOOOCUS = {
    "prompt": "a red circle", "negative_prompt": "a dog", "full_prompt": ["a red circle, cinematic"],
    "base_model": "m", "metadata_scheme": "fooocus",
}  # fmt: skip


@pytest.mark.parametrize(
    ("right", "texts"),
    [
        ("a red circle", {"parameters": "a red circle\nSteps: 20, Sampler: Euler"}),
        ("a red circle", {"parameters": "a red circle"}),
        ("Steps: of a temple", {"parameters": "Steps: of a temple\nNegative prompt: x\nSteps: 20"}),
        ("[[a red]] circle", {"parameters": "[[a red]] circle\nSteps: 20, Sampler: Euler"}),
        ("{red|blue} circle", {"parameters": "{red|blue} circle\nSteps: 20\nTemplate: x"}),
        ("a red circle", {"invokeai_metadata": {"positive_prompt": "a red circle", "negative_prompt": "a dog"}}),
        ("a red circle", {"sd__metadata": {"image": {"prompt": [{"prompt": "a red circle [a dog]", "weight": 1.0}]}}}),
        ("a red circle", {"sd__metadata": {"image": {"prompt": "a red circle"}}}),
        ('a "red" circle', {"Dream": '"a \\"red\\" circle [a dog]" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms'}),
        ("a red circle", {"dream": '"a red circle" -s 50'}),
        ("a red circle", {"fooocus_scheme": "fooocus", "parameters": FOOOCUS}),
        ("a red circle", {"fooocus_scheme": "a1111", "parameters": "a red circle\nNegative prompt: x\nSteps: 30"}),
        ("a red circle", {"Comment": {"Prompt": "a red circle", "Negative Prompt": "x", "Styles": "[]"}}),
        ("a red circle", {"parameters": {"sui_image_params": {"prompt": "a red circle", "negativeprompt": "x"}}}),
        ("a red circle", {"Software": "NovelAI", "Description": "a red circle", "Comment": {"steps": 28}}),
        ("a red circle", {"Software": "NovelAI", "Comment": {"prompt": "a red circle", "uc": "x"}}),
        (
            "a red circle",
            {"Comment": {"v4_prompt": {"caption": {"base_caption": "a red circle", "char_captions": []}}, "uc": "x"}},
        ),
        (
            "two | a girl | a boy",
            {
                "Comment": {
                    "prompt": "two",
                    "v4_prompt": {
                        "caption": {
                            "base_caption": "two",
                            "char_captions": [{"char_caption": "a girl"}, {"char_caption": "a boy"}],
                        }
                    },
                    "v4_negative_prompt": {"caption": {"base_caption": "x", "char_captions": []}},
                }
            },
        ),
        ("a red circle", {"prompt": "a red circle", "negative_prompt": "x", "seed": "1"}),
        ("a red circle", {"Prompt": "a red circle", "Negative Prompt": "x"}),
    ],
)
def test_every_tool(right: str, texts: dict[str, Any]) -> None:
    assert prompt(**texts) == right


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": ""},
        {"parameters": "Negative prompt: a dog\nSteps: 20, Sampler: Euler"},
        {"parameters": "Steps: 20, Sampler: Euler"},
        {"parameters": '{"sui_image_params": {"prompt": "cut sho'},
        {"parameters": {"sui_image_params": {"prompt": ["a"]}}},
        {"parameters": {"sui_image_params": {"prompt": "  "}}},
        {"parameters": {"unknown": "tool"}},
        {"parameters": [{"a": 1}]},
        {"parameters": "<x:xmpmeta>"},
        {"parameters": '{"' * 100_000},
        {"parameters": '{"a": ' * 100_000},
        {"parameters": '{"a": ' + "9" * 100_000 + "}"},
        {"parameters": '{"sui_image_params": {"prompt": "\\ud800"}}'},
        {"parameters": {"sui_image_params": {"prompt": '{"a": 1}'}}},
        {"invokeai_metadata": {"negative_prompt": "a dog"}},
        {"invokeai_metadata": "[]"},
        {"sd__metadata": {"image": {"prompt": [{"prompt": "a", "weight": 1}, {"prompt": "b", "weight": 1}]}}},
        {"sd__metadata": {"image": {"prompt": [1]}}},
        {"Dream": "no quotes -s 1"},
        {"Dream": '"' + '\\"' * 100_000},
        {"prompt": "{}", "workflow": "{}"},
        {"prompt": {"1": {"class_type": "Note", "inputs": {"text": "a note"}}}},
        {"workflow": {"nodes": [{"id": 1, "type": "Note", "widgets_values": ["a note"]}], "links": []}},
        {"workflow": {"nodes": 1}},
        {"negative_prompt": "a dog"},
        {"prompt": "null"},
        {"prompt": '"3": {"class_type": "KSampler", "inputs": {}}}', "negative_prompt": "a dog"},
        {"parameters": '"sui_image_params": {"prompt": "a red circle"}}'},
        {"Title": "NovelAI generated image", "Software": "NovelAI"},
        {"comment": "a comment"},
        {"exif:Make": 'prompt:{"1": '},
        {"parameters": "x" * (MAX_TEXT + 1)},
    ],
)
def test_no_other_text_is_taken_for_the_prompt(texts: dict[str, Any]) -> None:
    assert prompt(**texts) is None


def test_damaged_blocks_are_no_texts() -> None:
    exif = Image.Exif()
    for value in (b"UNICODE\0\xd8\x00\xd8", b"UNICODE\0", b"", b"\xff" * 9, b"JIS\0\0\0\0\0\xff\xff"):
        exif.get_ifd(EXIF)[USER_COMMENT] = value
        assert read("JPEG", exif=exif) is None
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a><description>&c;</description></a>'
    for xmp in (b"<a", b"\xff\xfe", bomb, b"<a>" * 20_000):
        assert read("JPEG", xmp=xmp) is None
    assert embedded_prompt(texts_of(png((b"eXIf", b"MM\0*\xff\xff\xff\xff")))) is None


# ComfyUI


def sampler(positive: Any = ("6", 0), **more: Any) -> dict[str, Any]:
    inputs = {"model": ["4", 0], "seed": 1, "steps": 20, "positive": list(positive), "negative": ["7", 0], **more}
    return {"class_type": "KSampler", "inputs": inputs}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def encode(text: Any = "a red circle", kind: str = "CLIPTextEncode") -> dict[str, Any]:
    return node(kind, text=text, clip=["4", 1])


NEGATIVE = {"7": encode("a dog"), "4": node("CheckpointLoaderSimple", ckpt_name="m.safetensors")}


def graph(**nodes: Any) -> dict[str, Any]:
    """A graph with a sampler (``s``) and a negative prompt; other nodes are named ``n6`` for id 6."""
    named = {key.removeprefix("n"): value for key, value in nodes.items() if key != "s"}
    return {"prompt": {"3": nodes.get("s", sampler()), **NEGATIVE, **named}}


GRAPHS = {
    "plain": graph(n6=encode()),
    "numbers as ids": {"prompt": {"3": sampler((6, 0)), **NEGATIVE, "6": encode()}},
    "ids of subgraphs": graph(s=sampler(("57:6", 0)), **{"n57:6": encode()}),
    "primitive": graph(n6=encode(["8", 0]), n8=node("PrimitiveStringMultiline", value="a red circle")),
    "string node": graph(n6=encode(["8", 0]), n8=node("Text Multiline", text="a red circle")),
    "shown string": graph(
        n6=encode(["8", 0]), n8=node("ShowText|pysssss", text=["9", 0], text_0="stale"),
        n9=node("String Literal", string="a red circle"),
    ),
    "joined": graph(
        n6=encode(["8", 0]),
        n8=node("StringConcatenate", string_a="a red", string_b=["9", 0], delimiter=" "),
        n9=node("PrimitiveString", value="circle"),
    ),
    "wildcards": graph(
        n6=encode(["8", 0]),
        n8=node("ImpactWildcardProcessor", wildcard_text="a {x|y}", populated_text="a red circle", mode=True, seed=1),
    ),
    "SDXL": graph(n6=node("CLIPTextEncodeSDXL", text_g="a red circle", text_l="a red circle", clip=["4", 1])),
    "SDXL, half": graph(n6=node("CLIPTextEncodeSDXL", text_g="a red circle", text_l="", clip=["4", 1])),
    "Flux": graph(
        s=node("SamplerCustomAdvanced", guider=["11", 0], sampler=["12", 0], latent_image=["13", 0]),
        n11=node("BasicGuider", model=["4", 0], conditioning=["14", 0]),
        n12=node("KSamplerSelect", sampler_name="euler"),
        n14=node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        n6=node("CLIPTextEncodeFlux", clip_l="", t5xxl="a red circle", guidance=3.5, clip=["4", 1]),
    ),
    "CFG guider": graph(
        s=node("SamplerCustomAdvanced", guider=["11", 0], sampler=["12", 0]),
        n11=node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=5.0), n6=encode(),
    ),
    "ControlNet": graph(
        s=sampler(("8", 0), negative=["8", 1]),
        n8=node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["9", 0]), n6=encode(),
    ),
    "crossed": graph(
        s=sampler(("8", 1), negative=["8", 0]),
        n8=node("ControlNetApplyAdvanced", positive=["7", 0], negative=["6", 0]), n6=encode(),
    ),
    "combined with itself": graph(
        s=sampler(("8", 0)), n8=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["9", 0]),
        n6=encode(), n9=encode(""),
    ),
    "zeroed": graph(
        s=sampler(("8", 0)), n8=node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["9", 0]),
        n6=encode(), n9=node("ConditioningZeroOut", conditioning=["7", 0]),
    ),
    "Qwen": graph(n6=node("TextEncodeQwenImageEdit", clip=["4", 0], prompt="a red circle", image=["9", 0])),
    "two passes": graph(n6=encode(), n20=sampler(latent_image=["3", 0])),
    "detailer with its own prompt": graph(
        n6=encode(), n20=node("FaceDetailer", positive=["21", 0], negative=["7", 0], steps=20, image=["3", 0]),
        n21=encode("a face"), n22=node("SaveImage", images=["20", 0]),
    ),
    "forgotten branch": graph(
        n6=encode(), n22=node("SaveImage", images=["3", 0]), n30=sampler(("31", 0)), n31=encode("an old idea"),
    ),
    "loader with prompts": graph(
        s=node("KSampler (Efficient)", positive=["8", 1], negative=["8", 2], steps=20),
        n8=node("Efficient Loader", ckpt_name="m", positive="a red circle", negative="a dog", batch_size=1),
    ),
    "pipe": graph(
        s=node("easy kSampler", pipe=["8", 0], steps=20),
        n8=node("easy fullLoader", ckpt_name="m", positive="a red circle", negative="a dog"),
    ),
    "reroute": graph(s=sampler(("8", 0)), n8={"class_type": "Reroute", "inputs": {"": ["6", 0]}}, n6=encode()),
    "is_changed": {"prompt": json.dumps(graph(n6=encode())["prompt"])[:-1] + ', "9": {"is_changed": [NaN]}}'},
    "in EXIF": {"exif:Model": "prompt:" + json.dumps(graph(n6=encode())["prompt"]), "exif:Make": "Workflow:{}"},
    "in a comment": {"exif:UserComment": json.dumps(graph(n6=encode()))},
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_followed_to_its_prompt(name: str) -> None:
    assert found(**GRAPHS[name]) == Embedded("a red circle", "ComfyUI")


def test_different_positive_prompts_are_told() -> None:
    two = {"n6": encode(), "n8": encode("a blue square")}
    for texts in (
        graph(s=sampler(("9", 0)), n9=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["8", 0]),
              **two),
        graph(n20=sampler(("8", 0), latent_image=["3", 0]), **two),
        graph(n6=node("CLIPTextEncodeSDXL", text_g="a red circle", text_l="a blue square", clip=["4", 1])),
    ):  # fmt: skip
        assert "2 different positive prompts: 'a red circle' and 'a blue square'" in why(**texts)


@pytest.mark.parametrize(
    "nodes",
    [
        {"n6": encode(["8", 0]), "n8": node("OllamaGenerate", prompt="Describe a circle", model="x")},
        {"n6": encode(["8", 0]), "n8": node("PromptEnhancer", text="Describe a circle")},
        {"n6": encode(["8", 0]), "n8": node("Load Text File", file_path="prompts.txt")},
        {"n6": encode(["8", 0]), "n8": node("FetchText", string="https://example.org/prompt")},
        {"n6": encode(["8", 0]), "n8": node("Line From Text", text="a red circle\na blue square")},
        {"n6": encode(["8", 0]), "n8": node("StringToUpper", text="a red circle")},
        {"n6": encode(["8", 0]), "n8": node("PromptStyler", prompt="a red circle")},
        {"n6": encode(["8", 0]), "n8": node("DPRandomGenerator", text="a {red|blue} circle", seed=1)},
        {"n6": encode(["8", 0])},
        {"n6": encode(["6", 0])},
        {"n6": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0])},
        {"n6": node("SDXLPromptStyler", text_positive="a", text_negative="b", style="x")},
        {"s": node("KSampler", seed=1)},
        {"n6": encode(3)},
        {"n6": encode("")},
    ],
)
def test_what_cannot_be_followed_is_no_prompt(nodes: dict[str, Any]) -> None:
    assert why(**graph(**nodes))


@pytest.mark.slow
def test_hostile_graphs_end_soon() -> None:
    chain = {f"n{i}": node("ConditioningSetArea", conditioning=[str(i + 1), 0]) for i in range(6, 20_000)}
    assert why(**graph(**chain))
    doubling = {f"n{i}": node("StringConcatenate", string_a=[str(i + 1), 0], string_b=[str(i + 1), 0], delimiter="")
                for i in range(8, 80)}  # fmt: skip
    assert why(**graph(n6=encode(["8", 0]), **doubling, n80=node("PrimitiveString", value="x" * 100)))
    mesh = {f"n{i}": node("ConditioningCombine", conditioning_1=[str(i + 1), 0], conditioning_2=[str(i + 2), 0])
            for i in range(6, 80)}  # fmt: skip
    assert prompt(**graph(**mesh, n80=encode(), n81=encode())) == "a red circle"


def editor(*nodes: dict[str, Any], links: list[Any]) -> dict[str, Any]:
    return {"workflow": {"nodes": list(nodes), "links": links, "version": 0.4}}


def box(identity: int, kind: str, inputs: dict[str, int | None], *values: Any, **more: Any) -> dict[str, Any]:
    entries = [{"name": name, "type": name.rstrip("12").upper(), "link": link} for name, link in inputs.items()]
    return {"id": identity, "type": kind, "inputs": entries, "widgets_values": list(values), "mode": 0, **more}


KSAMPLER = box(3, "KSampler", {"model": 1, "positive": 2, "negative": 3}, 7, "randomize", 20, 8, "euler", "normal", 1)
LINKS = [[1, 4, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"]]
DOG = box(7, "CLIPTextEncode", {"clip": None}, "a dog")
NOTE = box(9, "Note", {}, "remember the milk")


@pytest.mark.parametrize("text", ["a {red|blue} circle", "a red circle // a note", "a red /* not blue */ circle"])
def test_what_the_editor_resolves_before_it_runs_is_no_prompt(text: str) -> None:
    assert why(**editor(KSAMPLER, box(6, "CLIPTextEncode", {"clip": None}, text), DOG, links=LINKS))


def test_the_editors_form() -> None:
    circle = box(6, "CLIPTextEncode", {"clip": None}, "a red circle")
    right = Embedded("a red circle", "ComfyUI")
    assert found(**editor(KSAMPLER, circle, DOG, NOTE, links=LINKS)) == right
    objects = [
        {"id": k, "origin_id": a, "origin_slot": b, "target_id": c, "target_slot": d} for k, a, b, c, d, _ in LINKS
    ]
    assert found(**editor(KSAMPLER, circle, DOG, NOTE, links=objects)) == right
    flux = box(6, "CLIPTextEncodeFlux", {"clip": None}, "", "a red circle", 3.5)
    assert found(**editor(KSAMPLER, flux, DOG, links=LINKS)) == right
    linked = box(6, "CLIPTextEncode", {"clip": None, "text": 4}, "stale")
    text = box(8, "PrimitiveNode", {}, "a red circle")
    assert found(**editor(KSAMPLER, linked, text, DOG, links=[*LINKS, [4, 8, 0, 6, 1, "STRING"]])) == right
    getter = box(6, "GetNode", {}, "positive")
    setter = box(10, "SetNode", {"conditioning": 5}, "positive")
    held = box(11, "CLIPTextEncode", {"clip": None}, "a red circle")
    assert (
        found(**editor(KSAMPLER, getter, setter, held, DOG, links=[*LINKS, [5, 11, 0, 10, 0, "CONDITIONING"]])) == right
    )
    assert why(**editor(KSAMPLER, {**circle, "mode": 2}, DOG, NOTE, links=LINKS))  # muted
    combine = box(6, "ConditioningCombine", {"conditioning1": 5, "conditioning2": 6}, mode=4)  # bypassed
    other = box(12, "CLIPTextEncode", {"clip": None}, "left out")
    more = [[5, 11, 0, 6, 0, "CONDITIONING"], [6, 12, 0, 6, 1, "CONDITIONING"]]
    assert found(**editor(KSAMPLER, combine, held, other, DOG, links=[*LINKS, *more])) == right


def test_the_graph_that_was_run_counts() -> None:
    drawn = editor(KSAMPLER, box(6, "CLIPTextEncode", {"clip": None}, "edited since"), DOG, links=LINKS)
    assert prompt(**graph(n6=encode()), **drawn) == "a red circle"
