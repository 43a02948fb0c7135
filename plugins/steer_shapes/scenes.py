"""The vocabulary of the embedded world: the parts of a scene.

A scene is a tuple of objects on a dark 64x64 canvas. Coordinates are pixels, x to the right, y
down. An object's center and radius describe its *bounding box*: every shape fills a box of about
``2 * radius`` on each side, so its size can be measured in an image for any shape.
"""

from dataclasses import dataclass

CANVAS = 64
"""Side of a scene in pixels."""

BACKGROUND = (18, 20, 28)
ACCENT = (255, 255, 255)
"""Color of stripes and dots. Blending with white or black does not change a hue."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (230, 38, 40),
    "orange": (248, 136, 18),
    "yellow": (250, 226, 40),
    "green": (48, 190, 70),
    "cyan": (48, 214, 226),
    "blue": (46, 84, 240),
    "purple": (150, 54, 222),
    "pink": (252, 104, 190),
}
"""Eight colors whose hues lie at least 20 degrees apart."""

COLORS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
RELATIONS = ("left", "right", "above", "below")

RADII: dict[str, tuple[float, float]] = {"small": (7.5, 8.5), "large": (11.0, 12.5)}
"""Range of radii for each size, in pixels."""

SIZE_THRESHOLD = 9.75
"""Objects with a radius below this are small, the others large."""

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
MAX_OBJECTS = 4


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object. ``cx``, ``cy`` and ``radius`` are in pixels and describe its bounding box."""

    shape: str
    color: str
    size: str
    texture: str
    cx: float
    cy: float
    radius: float


Scene = tuple[SceneObject, ...]


def offset_along(relation: str, dx: float, dy: float) -> tuple[float, float]:
    """Split the offset from a reference object to a subject into (along, across) a relation.

    ``along`` is positive if the subject is on the side that the relation names; ``across``
    is the distance at right angles to it.
    """
    if relation == "left":
        return -dx, abs(dy)
    if relation == "right":
        return dx, abs(dy)
    if relation == "above":
        return -dy, abs(dx)
    if relation == "below":
        return dy, abs(dx)
    raise ValueError(f"unknown relation {relation!r}; known are {', '.join(RELATIONS)}")


def relation_holds(relation: str, subject: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether ``subject`` (x, y) has ``relation`` to ``other`` (x, y).

    True if the offset along the relation is at least 5 pixels and at least 0.8 of the offset
    across it: "left of" means mainly left. Rendered scenes stay well away from both limits.
    """
    along, across = offset_along(relation, subject[0] - other[0], subject[1] - other[1])
    return along >= 5.0 and along >= 0.8 * across
