"""Made-up answers to questions about images, for the benchmarks that ask them; the same on every machine."""

from __future__ import annotations

from random import Random

from steer import Prompt

SKILLS = ("object", "attribute", "count", "position", "verb")
KINDS = ("entity - whole", "attribute - color", "relation - spatial", "global", "other - count")


def soft_tifa(count: int) -> list[tuple[Prompt, list[float]]]:
    """Return prompts as GenEval 2 has them, each with the probabilities of its right answers."""
    found = []
    for number in range(count):
        random = Random(number).random
        atoms = 3 + number % 8
        skills = [SKILLS[int(random() * 5)] for _ in range(atoms + int(random() * 3))]
        metadata = {"atom_count": atoms, "skills": skills}
        prompt = Prompt(f"prompt {number}", id=str(number), category=f"{atoms} atoms", metadata=metadata)
        found.append((prompt, [0.02 + 0.97 * random() for _ in skills]))
    return found


def graphs(count: int) -> list[tuple[Prompt, list[bool]]]:
    """Return prompts as DPG-Bench has them, with questions that depend on earlier and later ones, and answers."""
    found = []
    for number in range(count):
        random = Random(1000 + number).random
        questions = 3 + int(random() * 8)
        dependencies = [
            sorted({int(random() * questions) for _ in range(int(random() * 3))} - {place})
            for place in range(questions)
        ]
        kinds = [KINDS[int(random() * 5)] for _ in range(questions)]
        metadata = {
            "questions": [f"question {place}?" for place in range(questions)], "dependencies": dependencies,
            "kinds": [kind.partition("-")[0].strip() for kind in kinds], "full_kinds": kinds,
        }  # fmt: skip
        answers = [random() < 0.7 for _ in range(questions)]
        found.append((Prompt(f"prompt {number}", id=str(number), metadata=metadata), answers))
    return found


def texts(count: int) -> dict[str, list[str]]:
    """Return texts of several prompts, with double spaces, empty ones and repetitions."""
    words = ["the", "a", "cat", "dog", "sat", "on", "mat", "red", ",", ".", "and", "and", "and"]
    found = {}
    for number in range(count):
        random = Random(2000 + number).random
        rows = [" ".join(words[int(random() * len(words))] for _ in range(int(random() * 14))) for _ in range(5)]
        found[f"prompt {number}"] = [*rows[:-1], rows[-1].replace(" and", "  and")]
    return found
