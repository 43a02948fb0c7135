"""Word lists for the rules of :mod:`steer_rewards.questions` and :mod:`steer_rewards.phrases`."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = frozenset({"a", "an"})
DEFINITE = frozenset({"the", "this", "that", "these", "those", "its", "his", "her", "their", "my", "your", "our"})
NUMBERS = _words(
    "two three four five six seven eight nine ten eleven twelve several many some few both various multiple numerous"
)
DETERMINERS = ARTICLES | DEFINITE | NUMBERS | {"one", "another", "each", "every", "no"}

COLORS = _words(
    "red orange yellow green blue purple pink brown black white gray grey cyan magenta violet turquoise teal gold "
    "golden silver beige maroon navy crimson scarlet tan ivory lavender indigo olive bronze copper blond blonde"
)
ADJECTIVES = COLORS | _words(
    "big small large tiny huge little tall short long wide narrow thick thin giant medium massive "
    "round rectangular triangular circular oval spherical cubic conical cylindrical pentagonal hexagonal "
    "oblong flat curved sharp pointed "
    "wooden metal metallic leather rubber plastic glass fabric fluffy furry soft hard smooth rough shiny glossy "
    "striped dotted plain spotted checkered patterned plaid transparent fuzzy woolen ceramic stone "
    "old new young ancient modern rusty dirty clean empty full open closed broken hot cold warm wet dry fresh "
    "happy sad angry cute beautiful pretty ugly majestic cozy bright dark light pale vivid colorful colourful "
    "vintage antique futuristic realistic abstract fat skinny fast slow quiet loud sunny cloudy snowy rainy "
    "bald bearded muscular elderly female male "
    "first second third left right top bottom upper lower front rear"
)
NOUNS_TOO = _words(
    "orange gold silver copper bronze brown black white glass stone rubber plastic metal leather fabric ceramic oval "
    "male female light dark young old left right top bottom front rear"
)
"""Adjectives that may also be nouns: "an orange and an apple"."""

ADVERBS = _words("very really so quite extremely highly rather fairly beautifully brightly slowly quickly")

RELATIONS = (
    "to the left side of", "to the right side of", "on the left side of", "on the right side of", "on the side of",
    "to the left of", "to the right of", "on the left of", "on the right of", "on top of", "in front of",
    "in the middle of", "in the center of", "at the top of", "at the bottom of", "at the edge of", "at the foot of",
    "in the shape of", "in the style of", "on the bottom of", "on the edge of", "at the side of", "by the side of",
    "made out of", "made of", "filled with", "covered with", "covered in", "covered by", "surrounded by",
    "next to", "close to", "adjacent to", "left of", "right of", "inside of", "outside of", "out of", "far from",
    "above", "below", "under", "underneath", "beneath", "over", "behind", "beside", "besides", "between", "near",
    "nearby", "inside", "outside", "within", "against", "around", "across", "along", "among", "amid", "atop", "beyond",
    "through", "toward", "towards", "into", "onto", "upon", "on", "in", "at", "by", "from", "with", "without",
    "during", "to", "for",
)  # fmt: skip
"""Relations between two things, the longest first."""

UNASKED = frozenset({"for", "in the style of", "in the shape of"})
"""Relations that give no question about two things in the image."""

CONJUNCTIONS = frozenset({"and", "or", "while", "as", "then", "plus", "but", "&", "when", "where", "who", "which"})
COPULAS = frozenset({"is", "are", "was", "were"})
HAVING = frozenset({"has", "have", "having", "had"})

VERBS = {
    "sits": "sitting", "stands": "standing", "lies": "lying", "runs": "running", "jumps": "jumping",
    "flies": "flying", "holds": "holding", "wears": "wearing", "rides": "riding", "eats": "eating",
    "plays": "playing", "walks": "walking", "sleeps": "sleeping", "reads": "reading", "drives": "driving",
    "swims": "swimming", "looks": "looking", "carries": "carrying", "drinks": "drinking", "hangs": "hanging",
    "leans": "leaning", "rests": "resting", "floats": "floating", "dances": "dancing", "chases": "chasing",
    "catches": "catching", "throws": "throwing", "watches": "watching", "pulls": "pulling", "pushes": "pushing",
    "climbs": "climbing", "cooks": "cooking", "paints": "painting", "kisses": "kissing", "touches": "touching",
}  # fmt: skip
"""Finite verbs, and their form in a question with "is"."""

ING_NOUNS = _words(
    "building ring king thing morning evening painting drawing ceiling wedding clothing string wing spring swing "
    "lightning sling duckling earring icing frosting awning railing stocking pudding dumpling sibling farthing "
    "engraving etching carving rendering gathering crossing landing lighting offspring seasoning stuffing topping "
    "viking being meeting parking bedding flooring piping rigging writing herring sterling darling"
)
"""Nouns that end like participles."""

MEDIA = _words(
    "photo photograph picture image photography shot snapshot closeup close-up view scene depiction portrait "
    "painting drawing sketch illustration rendering render cartoon engraving etching watercolor watercolour "
    "sculpture poster mosaic screenshot"
)
PHOTOGRAPHS = _words("photo photograph picture image photography shot snapshot closeup close-up view scene depiction")
"""Media that describe every image, and so give no question."""

PLACES = _words(
    "left right top bottom middle center centre side front back background foreground distance edge corner image "
    "picture photo scene frame"
)
"""Places, which are not things to look for."""

TIMES = _words("night day daytime nighttime morning afternoon evening noon midnight dusk dawn")

COLLECTIVES = _words("group pair bunch set pile stack row couple lot number kind type piece crowd")

PRONOUNS = _words(
    "it they them he him she her this that these those which who there here itself themselves each other one "
    "something someone everything"
)

TAGS = frozenset(
    {
        "masterpiece", "best quality", "high quality", "highly detailed", "detailed", "intricate", "4k", "8k", "hd",
        "uhd", "hdr", "photorealistic", "realistic", "hyperrealistic", "ultra realistic", "trending on artstation",
        "artstation", "octane render", "unreal engine", "cinematic", "cinematic lighting", "sharp focus", "bokeh",
        "depth of field", "award winning", "award-winning", "professional", "studio lighting", "digital art",
        "concept art", "high resolution", "ultra detailed", "ultra-detailed", "masterpiece quality",
    }
)  # fmt: skip
"""Phrases about rendering quality, which give no question."""
