#!/usr/bin/env bash
# Make the set in FOLDER with an earlier version of steer: VERSION is a checkout of it. See README.md.
set -euo pipefail
[ $# = 2 ] || { echo "usage: make.sh VERSION FOLDER" >&2; exit 2; }
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
version=$(realpath "$1") && mkdir -p "$2" && cd "$2"
[ -z "$(ls)" ] || { echo "$2 is not empty" >&2; exit 2; }

export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-python}
steer() { PYTHONPATH=$version:$version/plugins "$python" -m steer "$@"; }
# the model whose prompts never share a forward is too large to keep; the test makes it the same way
PYTHONPATH=$here/.. "$python" -c '
from support.families.z_image import tiny_z_image
tiny_z_image().save_pretrained("z-image")' 2>/dev/null

# A command that is killed once FILE has a line, as `render prompts.jsonl --out half`.
killed_after() { # FILE COMMAND…
    local file=$1 child
    shift
    PYTHONPATH=$version:$version/plugins "$python" -m steer "$@" & child=$!
    # shellcheck disable=SC2086  # FILE may be a pattern
    until cat $file 2>/dev/null | grep -q .; do
        kill -0 "$child" || { echo "steer $* ended before it was killed" >&2; exit 1; }
        sleep 0.01
    done
    kill -9 "$child"
    wait "$child" || true
}

generate() { steer generate --choose all "$@"; }
generate "a red circle" "two blue squares" --steps 6 --seed 3 -n 2 --out plain
generate "a red circle to the left of a blue square" --steps 8 --seed 5 -n 4 -p fk -r shapes -o fk.lambda=4 --out fk
generate "three green triangles" --seed 9 -p dmd2 -p best-of-n -r shapes -n 3 --out dmd2-best-of-n
generate "a yellow star" --seed 4 -p dmd2 -o dmd2.steps=1 -p carinox -r clip:shapes -o carinox.iterations=4 \
    -o carinox.seeds=2 --out carinox
steer segment plain/*-000.png --out masks
generate --model symmflow:masks --mask "$(ls masks/*-mask.png | head -1)" --steps 4 --seed 6 --out symmflow-masks
generate --model symmflow:classes --class star --steps 4 --seed 6 --out symmflow-classes
generate "a red circle" --model text:shapes --seed 8 --out text
generate "a red circle" --model text:shapes --seed 8 -n 3 -p fk -r length --out text-fk
generate "a red circle" "the photo" --model z-image --size 24x16 --steps 3 --seed 2 -n 3 --out z-image-plain

cat >prompts.jsonl <<'END'
{"id": "p1", "prompt": "a red circle", "seed": 11}
{"id": "p2", "prompt": "two blue squares", "seed": 12, "steps": 5}
{"id": "p3", "prompt": "a green triangle above a yellow star", "seed": 13, "options": {"fk": {"lambda": 3}}}
{"id": "p4", "prompt": "a purple square", "category": "color"}
END
render=(render prompts.jsonl -p fk -r shapes -n 3 --steps 6 --out)
steer "${render[@]}" render
killed_after render-killed/journal.jsonl "${render[@]}" render-killed

# particles of three numbers, and prompts that never share a forward: run.toml can name no size of a forward
cat >uneven.jsonl <<'END'
{"id": "two", "prompt": "a red circle", "seed": 21, "particles": 2}
{"id": "three", "prompt": "a blue square", "seed": 22, "particles": 3}
{"id": "six", "prompt": "the photo", "seed": 23, "particles": 6}
END
render=(render uneven.jsonl -m z-image --size 24x16 --steps 3 --choose all --out)
steer "${render[@]}" uneven
killed_after uneven-killed/journal.jsonl "${render[@]}" uneven-killed

cat >compared.jsonl <<'END'
{"id": "c1", "prompt": "a cyan star", "category": "color"}
{"id": "c2", "prompt": "a pink cross", "category": "color"}
{"id": "c3", "prompt": "two red circles", "category": "count"}
{"id": "c4", "prompt": "a blue square above a green circle", "category": "place"}
{"id": "c5", "prompt": "an orange triangle", "category": "color"}
END
compare=(compare compared.jsonl -r shapes --judge clip:shapes --budget nfe=24 --steps 4 --seed 7 --out)
steer "${compare[@]}" compare
killed_after "compare-killed/cells/best-of-n*" "${compare[@]}" compare-killed

# one or two samples of each are enough to make again, and nobody needs the rest
rm {fk,z-image-plain}/*-001.png fk/*-002.png dmd2-best-of-n/*-001.png text-fk/*-001.txt
find . -name traces -o -name page | xargs rm -r
find . \( -name sheet.png -o -name '*-overlay.png' -o -name '*-confidence-map.png' -o -name '.lock' -o -name '*.html' \
    -o -name report.md -o -name scores.png -o -name over-optimization.png \) -delete
find . -name result.json -not -path './text*' -delete
rm -r z-image
PYTHONPATH=$here/.. "$python" -c '
import json
from support.machines import machine
print(json.dumps(machine(), indent=1))' >made.json
