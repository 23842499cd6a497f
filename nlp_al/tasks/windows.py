"""Sentences as pieces that fit the model's window, in which each word is read exactly once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from nlp_al.errors import UserError
from nlp_al.tasks.base import Piece


def encode_words(tokenizer: Any, sentences: Sequence[Sequence[str]], max_length: int, stride: int) -> list[list[Piece]]:
    """The pieces of each sentence, of at most max_length tokens; neighbouring ones share `stride` tokens or more.

    `first` marks the first sub-word of a word, in the piece where it has most context on both sides; the words stand in
    order over the pieces. A word that the tokenizer drops (a lone joiner, say) is read as unknown.

    Raises:
        UserError: the window has no room for words.
    """
    found = _read(tokenizer, sentences)
    lost = [at for at, (_, first, _) in enumerate(found) if None in first]
    if lost:
        unknown = tokenizer.unk_token or "?"
        changed = [
            [unknown if place is None else word for word, place in zip(sentences[at], found[at][1], strict=True)]
            for at in lost
        ]
        for at, again in zip(lost, _read(tokenizer, changed), strict=True):
            found[at] = again
    return [_pieces(values, first, content, max_length, stride) for values, first, content in found]


def _read(tokenizer: Any, sentences: Sequence[Sequence[str]]) -> list[tuple[Piece, list[int | None], range]]:
    """Per sentence: all its tokens, the first one of each word, and where those between the special ones lie.

    Words are read as running text, with spaces between them: that is what encoders were trained on, and tokenizers that
    hold a space for a part of the word after it need it.
    """
    made = tokenizer([" ".join(words) for words in sentences], return_offsets_mapping=True, verbose=False)
    offsets = made.pop("offset_mapping")
    found = []
    for at, words in enumerate(sentences):
        inside = [place for place, sequence in enumerate(made.sequence_ids(at)) if sequence is not None]
        content = range(inside[0], inside[-1] + 1) if inside else range(0)
        ends = list(itertools.accumulate((len(word) + 1 for word in words), initial=-1))[1:]
        first = _first_tokens([offsets[at][place][0] for place in content], ends)
        found.append(({name: values[at] for name, values in made.items()}, first, content))
    return found


def _first_tokens(starts: Sequence[int], ends: Sequence[int]) -> list[int | None]:
    """The first token of each word, None where it has none. starts, ends: where tokens begin and words end."""
    found: list[int | None] = [None] * len(ends)
    word = 0
    for at, start in enumerate(starts):
        while word < len(ends) and ends[word] <= start:
            word += 1
        if word < len(ends) and found[word] is None:
            found[word] = at
    return found


def _pieces(values: Piece, first: Sequence[int | None], content: range, max_length: int, stride: int) -> list[Piece]:
    if None in first:
        raise UserError("The tokenizer reads several words as one token, so that they can't be told apart.")
    around = len(values["input_ids"]) - len(content)
    if around >= max_length:
        raise UserError(
            f"task_options.max_length is {max_length}, but the tokenizer puts {around} tokens around every sentence; "
            "take a longer window."
        )
    starts, pieces = set(first), []
    for begin, end, kept in windows(len(content), max_length - around, stride):
        inside = slice(content.start + begin, content.start + end)
        piece = {
            name: [*whole[: content.start], *whole[inside], *whole[content.stop :]] for name, whole in values.items()
        }
        marked = [int(place in kept and place in starts) for place in range(begin, end)]
        piece["first"] = [*[0] * content.start, *marked, *[0] * (around - content.start)]
        if any(marked):  # or it is the inside of one long word, off which nothing is read
            pieces.append(piece)
    return pieces


def windows(count: int, room: int, stride: int) -> list[tuple[int, int, range]]:
    """(begin, end, tokens that are read here) of each window over `count` tokens, of at most `room` each.

    A token is read where the nearer border of the window is farthest, and the earlier one on a tie; the ends of the
    sentence are no borders. Neighbours share `stride` tokens, the last two may share more.
    """
    if count <= room:
        return [(0, count, range(count))]
    begins = [*range(0, count - room, room - min(stride, room - 1)), count - room]
    # Half way into what two neighbours share, the later one begins to see more.
    cuts = [0, *((before + room + after + 1) // 2 for before, after in itertools.pairwise(begins)), count]
    return [(begin, begin + room, range(*cut)) for begin, cut in zip(begins, itertools.pairwise(cuts), strict=True)]
