"""Names of objects: the 80 classes of COCO and their spellings, and the singular of a noun."""

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The classes in the order of their numbers, named as GenEval's prompts name them."""

SAME = {
    "people": "person", "man": "person", "woman": "person", "boy": "person", "girl": "person", "child": "person",
    "motorbike": "motorcycle", "aeroplane": "airplane", "plane": "airplane", "ship": "boat", "sofa": "couch",
    "table": "dining table", "television": "tv", "tv monitor": "tv", "mouse": "computer mouse",
    "remote": "tv remote", "remote control": "tv remote", "keyboard": "computer keyboard", "mobile phone": "cell phone",
    "phone": "cell phone", "fridge": "refrigerator", "hair dryer": "hair drier", "doughnut": "donut",
    "bike": "bicycle", "ball": "sports ball", "plant": "potted plant",
}  # fmt: skip
"""Other names of some classes; a detector's table of labels may have them too."""

_SAME = {other.replace(" ", ""): name.replace(" ", "") for other, name in SAME.items()}
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "sheep": "sheep", "fish": "fish", "deer": "deer", "skis": "skis",
    "scissors": "scissors", "glasses": "glass", "buses": "bus", "shoes": "shoe", "toes": "toe", "canoes": "canoe",
}  # fmt: skip
_VES = {"knives": "knife", "wolves": "wolf", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf", "calves": "calf"}


def singular(name: str) -> str:
    """Return a noun phrase with its last word in the singular, by the rules of English."""
    *before, last = name.split(" ")
    return " ".join([*before, _singular(last)])


def same(name: str) -> str:
    """Return a name without differences of spelling, to compare it with another."""
    letters = "".join(character for character in name.lower() if character.isalnum())
    return _SAME.get(letters, letters)


def _singular(word: str) -> str:
    if word in _IRREGULAR or word in _VES:
        return _IRREGULAR.get(word) or _VES[word]
    if word[:-1] in COCO:
        return word[:-1]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
