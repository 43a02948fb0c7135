"""T2I-CompBench++ (Huang et al. 2025, arXiv 2307.06350): attributes, relations, numbers and complex compositions."""

from collections.abc import Mapping

from steer import Prompt
from steer.plugin import Benchmark, Measure, Published, parse_prompts
from steer_benchmarks.sources import on_github

COMMIT = "1b7094991a57f3c22abdd4f6e8ba6c1a15517073"
SHA256 = {
    "color_val": "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d",
    "shape_val": "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae",
    "texture_val": "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f",
    "spatial_val": "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988",
    "3d_spatial_val": "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9",
    "non_spatial_val": "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d",
    "numeracy_val": "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe",
    "complex_val": "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4",
    "complex_val_spatial": "6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02",
    "complex_val_action": "d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e",
}
FILES = {
    name: on_github(
        "Karine-Huang/T2I-CompBench", COMMIT, f"examples/dataset/{name}.txt", "MIT", sha256=digest,
    )
    for name, digest in SHA256.items()
}  # fmt: skip
CATEGORIES = {
    "color": "color_val", "shape": "shape_val", "texture": "texture_val", "2d_spatial": "spatial_val",
    "3d_spatial": "3d_spatial_val", "numeracy": "numeracy_val", "non_spatial": "non_spatial_val",
    "complex": "complex_val",
}  # fmt: skip
NAME = "compbench"
CLIP = "clip:ViT-B-32/openai"
JUDGES = {
    "color": "bvqa", "shape": "bvqa", "texture": "bvqa", "2d_spatial": "compbench-2d", "3d_spatial": "compbench-3d",
    "numeracy": "compbench-numeracy", "non_spatial": f"{CLIP}:0.01",
    # 3-in-1: the mean of those that a prompt needs
    "complex-spatial": "bvqa:0.5+compbench-2d:0.5",
    "complex-action": f"bvqa:0.5+{CLIP}:0.005",
    "complex-both": f"bvqa:{1 / 3:.6f}+compbench-2d:{1 / 3:.6f}+{CLIP}:{0.01 / 3:.6f}",
}  # fmt: skip


def read(files: Mapping[str, bytes]) -> list[Prompt]:
    """Return the prompts of all categories; those of ``complex`` name their judge."""
    texts = {name: _lines(files[file.name]) for name, file in FILES.items()}
    spatial, action = ({_key(line) for line in texts[f"complex_val_{kind}"]} for kind in ("spatial", "action"))
    prompts = []
    for category, name in CATEGORIES.items():
        parsed = parse_prompts(files[FILES[name].name], name=FILES[name].name)
        for number, prompt in enumerate(parsed):
            kind = "spatial" if _key(prompt) in spatial else "action" if _key(prompt) in action else "both"
            judge = f"complex-{kind}" if category == "complex" else category
            prompts.append(prompt.having(id=f"{category}-{number:03d}", category=category, metadata={"judge": judge}))
    return prompts


def _lines(data: bytes) -> list[str]:
    return [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]


def _key(text: str) -> str:
    """Return a prompt as the published evaluation looks it up: to its first full stop, in lower case."""
    return text.partition(".")[0].strip().lower()


def _known(model: str, *figures: float) -> Published:
    groups = dict(zip(CATEGORIES, figures, strict=True))
    return Published(model, "T2I-CompBench++, its table of models", {NAME: groups})


COMPBENCH = Benchmark(
    title="T2I-CompBench++",
    paper="arXiv 2307.06350",
    files=tuple(FILES.values()),
    read=read,
    images=10,
    measures=(
        Measure(
            NAME, JUDGES, overall="groups", official=False,
            note="Attributes by BLIP-VQA as published, noun phrases by rules instead of spaCy; relations and numbers "
            "by the published rules over OWLv2 instead of UniDet. The paper states no overall figure.",
        ),
    ),
    published=(
        _known("Stable Diffusion 2", 0.5065, 0.4221, 0.4922, 0.1342, 0.3230, 0.4582, 0.3127, 0.3386),
        _known("Stable Diffusion XL", 0.5879, 0.4687, 0.5299, 0.2133, 0.3566, 0.4988, 0.3119, 0.3237),
        _known("PixArt-α-ft", 0.6690, 0.4927, 0.6477, 0.2064, 0.3901, 0.5032, 0.3197, 0.3433),
        _known("DALL-E 3", 0.7785, 0.6205, 0.7036, 0.2865, 0.3744, 0.5926, 0.3003, 0.3773),
        _known("Stable Diffusion 3", 0.8132, 0.5885, 0.7334, 0.3200, 0.4084, 0.6174, 0.3140, 0.3771),
        _known("FLUX.1 schnell", 0.7407, 0.5718, 0.6922, 0.2863, 0.3866, 0.6185, 0.3127, 0.3703),
    ),
)  # fmt: skip
