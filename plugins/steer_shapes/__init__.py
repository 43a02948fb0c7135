"""The embedded world of steer: scenes, verifier, reward and small models trained on them."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the model, the rewards, the CLIP, the data and the training command; nothing is imported yet."""
    registry.model(
        "shapes",
        "steer_shapes.paths:pipeline",
        summary="small Stable Diffusion that draws colored shapes at 64x64 (ships with steer)",
    )
    registry.model(
        "shapes-video",
        "steer_shapes.paths:video",
        summary="small Latte that draws one moving shape, 9 frames of 64x64 (ships with steer)",
    )
    registry.reward(
        "shapes",
        "steer_shapes.reward:ShapesReward",
        summary="share of a shapes prompt's requirements that the image meets, in [0, 1]",
    )
    registry.reward(
        "shapes-objects", "steer_shapes.learned:ShapesObjects",
        summary="does the image have each object of a shapes prompt? 0..1, differentiable",
    )  # fmt: skip
    registry.reward(
        "shapes-count", "steer_shapes.learned:ShapesCount",
        summary="are there as many objects as a shapes prompt says? 0..1, differentiable",
    )  # fmt: skip
    registry.reward(
        "shapes-relations", "steer_shapes.learned:ShapesRelations",
        summary="are objects placed as a shapes prompt says? 0..1, differentiable",
    )  # fmt: skip
    registry.reward(
        "shapes-clean", "steer_shapes.learned:ShapesClean",
        summary="how clean an image of the shapes world is; 0..1, differentiable",
    )  # fmt: skip
    registry.reward(
        "shapes-video", "steer_shapes.motion:ShapesVideo",
        summary="share of a moving shape's sentence that the video shows, in [0, 1]",
    )  # fmt: skip
    registry.reward(
        "shapes-moving", "steer_shapes.motion:ShapesMoving",
        summary="do three frames of a video show a moving shape's sentence? 0..1, differentiable",
    )  # fmt: skip
    registry.reward(
        "shapes-grammar", "steer_shapes.sentences:ShapesGrammar",
        summary="texts: 1 for a caption of the shapes world, else the share that reads like one",
    )  # fmt: skip
    registry.benchmark(
        "shapes-bench",
        "steer_shapes.benchmark:BENCHMARK",
        summary="scenes of the embedded world, judged by its verifier",
    )
    registry.clip("shapes", "steer_shapes.paths:clip")
    registry.samples("shapes", "steer_shapes.examples:examples", summary="scenes of the evaluation prompts")
    registry.data(
        "shapes-masks",
        "steer_shapes.labeled:ShapesMasks",
        of="labeled images",
        summary="scenes, and masks of which kind of shape covers each pixel",
    )
    registry.data(
        "shapes-classes",
        "steer_shapes.labeled:ShapesClasses",
        of="labeled images",
        summary="scenes of one object, and the kind of its shape",
    )
    registry.data(
        "shapes", "steer_shapes.train.data:scenes", of="captioned images",
        summary="scenes of the training split, drawn on demand",
    )  # fmt: skip
    registry.data(
        "shapes-detector", "steer_shapes.detector:Features", of="image features",
        summary="features of the embedded world's detector",
    )  # fmt: skip
    registry.data(
        "shapes-captions", "steer_shapes.sentences:captions", of="texts", summary="captions of the training split"
    )
    registry.command(
        "train shapes",
        "steer_shapes.train.cli:command",
        summary="train the embedded shapes models: text-to-image, CLIP, detector, text-to-video",
    )
