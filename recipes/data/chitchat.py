"""Writes contexts with ten candidate responses each, out of human conversations: data for response selection.

    python recipes/data/chitchat.py [FOLDER]

makes FOLDER/chitchat-train.jsonl and FOLDER/chitchat-test.jsonl (1,500 and 500 rows of id, context, candidates, label);
FOLDER is build/data where none is named. The text is the Chit-Chat Challenge of Brigham Young University, 2018 (MIT),
in the package chitchat-dataset; none of its code is run. The same rows come out every time.

How a conversation becomes a row:
- What one person writes before the other answers is one turn. Conversations in which nobody answers are left out.
- Each conversation gives one row: one of its turns, drawn at random, is the right response, and up to two turns before
  it are the context. The response has 4 to 40 words, as "yeah" answers anything.
- A conversation is in train or in test, never in both. People may be in both: some took part in hundreds.
- The nine other candidates are right responses of other rows of the same split, drawn at random: what is right cannot
  be told from a candidate alone. None equals the right response, a turn of the context or another candidate, capitals
  and punctuation aside. That a random response fits just as well does happen; so 100% is not within reach.
"""

import json
import random
import re
import sys
from pathlib import Path

from nlp_al.main import run_command
from nlp_al.source import package_path

SIZES = {"train": 1500, "test": 500}
CANDIDATES = 10
TURNS = 2
WORDS = range(4, 41)
SEED = 0


def conversations() -> list[tuple[str, list[str]]]:
    """(id, turns) of each conversation in which somebody answers."""
    path = package_path("pkg:chitchat_dataset/dataset.json", "The data")
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    made = []
    for name, conversation in sorted(found.items()):
        turns = [" ".join(" ".join(part["text"] for part in turn).split()) for turn in conversation["messages"]]
        made.append((name, [turn for turn in turns if turn]))
    return [(name, turns) for name, turns in made if len(turns) > 1]


def heard(text: str) -> str:
    """A text without capitals and punctuation."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def fits(turn: str, before: list[str]) -> bool:
    """Whether a turn may be the right response to those before it."""
    return len(turn.split()) in WORDS and heard(turn) not in map(heard, before)


def rows_of(chosen: list[tuple[str, list[str]]], size: int, draw: random.Random) -> list[dict]:
    """The rows of one split."""
    rows, responses = [], []
    for name, turns in chosen:
        places = [at for at in range(1, len(turns)) if fits(turns[at], turns[max(0, at - TURNS) : at])]
        if places and len(rows) < size:
            at = draw.choice(places)
            rows.append({"id": f"{name}-{at}", "context": turns[max(0, at - TURNS) : at]})
            responses.append(turns[at])
    for row, right in zip(rows, responses, strict=True):
        candidates, known = [right], {heard(turn) for turn in (*row["context"], right)}
        while len(candidates) < CANDIDATES:
            other = draw.choice(responses)
            if heard(other) not in known:
                candidates.append(other)
                known.add(heard(other))
        draw.shuffle(candidates)
        row |= {"candidates": candidates, "label": candidates.index(right)}
    return rows


def main() -> None:
    """Splits the conversations, three quarters for train, and writes both files."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/data")
    draw = random.Random(SEED)
    found = conversations()
    draw.shuffle(found)
    border = len(found) * 3 // 4
    folder.mkdir(parents=True, exist_ok=True)
    for split, chosen in {"train": found[:border], "test": found[border:]}.items():
        rows = rows_of(chosen, SIZES[split], draw)
        path = folder / f"chitchat-{split}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        print(f"{path}: {len(rows)} contexts with {CANDIDATES} candidates each.")


if __name__ == "__main__":
    sys.exit(run_command(main))
