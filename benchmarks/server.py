"""How fast the server of `nlp-al server` is with many records and people, and whether anything is ever lost.

    python benchmarks/server.py --json server.json                 # 50,000 records: logging, then requests of each kind
    python benchmarks/server.py --people 1000 --json people.json   # eight people, 1,000 answers each, beside pushes
    python benchmarks/server.py --kills 100 --json kills.json      # kill -9 while people answer, a hundred times

The server is started as people start it. All requests go over HTTP from this process on the same machine, so both sides
share the cores. What is timed:

    logging     bulks of 256: some 20 words of text (one in 50 has 500 to 1,500), rank, round and score, a suggestion, a
                vector of 384 float32. From the request to the last byte of the answer, as the SDK waits for it
    requests    30 of each kind, one after the other, with 25,000 answers by one person and 2,000 each by three others,
                of which two make a record complete. The first queue page is that of somebody who has answered little
    start       `nlp-al server up` with all this on the disk, and until a first question by vector is answered
    --people    what the tests let eight people do, with more answers: each fetches ten records and answers them in turn
    --kills     what the tests let happen between two starts; a new dataset after ten kills
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from servers import Api, Server, answered, label_question, server  # noqa: E402

LABELS = ("sport", "money", "food", "travel", "health")
WIDTH = 384
BULK = 256
ROUNDS = 20
PEOPLE = 8
OTHERS = ("annotator-2", "annotator-3", "annotator-4")
GOALS = {"a queue page": 0.1, "text": 0.3, "like": 0.5, "progress": 0.2}


class Corpus:
    """Records that look like those of a project; the words are drawn as often as words are in English."""

    def __init__(self, count: int, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        syllables = [first + vowel for first in "bcdfghjklmnprstvz" for vowel in "aeiou"]
        made = {"".join(draw.choice(syllables, 2 + at % 3)) for at in range(40_000)}
        self.words = sorted(made, key=lambda word: (len(word), hash_of(word)))[:20_000]
        often = np.cumsum(1 / (np.arange(len(self.words)) + 2.7))
        self._often = often / often[-1]
        self.count = count

    def records(self, question: str) -> Iterator[dict[str, Any]]:
        """All of them, the same at each call."""
        draw = np.random.default_rng(1)
        ranks = draw.permutation(self.count)
        for at in range(self.count):
            length = int(draw.integers(500, 1500)) if at % 50 == 0 else 3 + int(draw.gamma(4, 4.5))
            vector = draw.standard_normal(WIDTH).astype(np.float32)
            vector /= np.linalg.norm(vector)
            suggestion = {"value": LABELS[int(draw.integers(len(LABELS)))], "score": round(float(draw.random()), 4)}
            yield {
                "external_id": f"r{at}",
                "fields": {"text": self.text(draw, length), "title": self.text(draw, 4)},
                "metadata": {"rank": int(ranks[at]), "round": at * ROUNDS // self.count, "score": float(draw.random())},
                "suggestions": [{"question_id": question, "agent": "model", **suggestion}],
                "vectors": {"embedding": vector.tolist()},
            }

    def text(self, draw: np.random.Generator, length: int) -> str:
        """So many words."""
        return " ".join(self.words[at] for at in np.searchsorted(self._often, draw.random(length)))


def hash_of(word: str) -> int:
    """The same in each process, unlike `hash`."""
    return int.from_bytes(word.encode(), "little") * 2654435761 % 2**32


def bulks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, BULK)):
        yield part


def took(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def log(owner: Api, corpus: Corpus) -> tuple[str, list[tuple[int, float]]]:
    """Writes all records; the id of the dataset, and how many each request had and how long it took."""
    dataset = owner.dataset(
        {"text": "text", "title": "text"},
        {"label": label_question(*LABELS)},
        metadata={"rank": "integer", "round": "integer", "score": "float"},
        vectors={"embedding": WIDTH},
        min_submitted=2,
        name="many",
    )
    (question,) = owner.ask("GET", f"datasets/{dataset}/questions")["items"]
    path, seconds = f"datasets/{dataset}/records/bulk", []
    for part in bulks(corpus.records(question["id"])):
        seconds.append((len(part), took(lambda part=part: owner.ask("PUT", path, {"items": part}))))  # type: ignore[misc]
    return dataset, seconds


def answer_many(one: Server, dataset: str, corpus: Corpus, most: int) -> int:
    """Answers of one person to the first `most` records of the queue, and of three others to 2,000 drawn ones each."""
    owner = one.api()
    ids = {user["username"]: user["id"] for user in owner.ask("GET", "users")["items"]}
    ranks = np.random.default_rng(1).permutation(corpus.count)
    draw = random.Random(0)
    by_record: dict[int, list[str]] = {int(at): ["annotator-1"] for at in np.argsort(ranks)[:most]}
    for name in OTHERS:
        for at in draw.sample(range(corpus.count), min(2000, corpus.count // 10)):
            by_record.setdefault(at, []).append(name)

    def rows() -> Iterator[dict[str, Any]]:
        for at, people in by_record.items():
            given = [
                {"user_id": ids[name], "status": "submitted", "values": {"label": {"value": draw.choice(LABELS)}}}
                for name in people
            ]
            yield {"external_id": f"r{at}", "responses": given}

    for part in bulks(rows()):
        owner.upsert(dataset, part, BULK)
    return sum(map(len, by_record.values()))


def kinds(one: Server, dataset: str, corpus: Corpus) -> dict[str, Callable[[int], object]]:
    """Each kind of request, by what it is; the number says which of its kind."""
    owner, busy, fresh = one.api(), one.api("annotator-1"), one.api(OTHERS[0])
    sample = owner.ask("GET", f"datasets/{dataset}/records", limit=100, offset=corpus.count // 2, include="vectors")
    some = sample["items"]
    vectors = [record["vectors"]["embedding"] for record in some]
    last, further = max(0, corpus.count - 1000), corpus.count * 2 // 5
    everything = ["responses", "suggestions"]

    def text(words: Callable[[int], str], field: str | None = None) -> Callable[[int], object]:
        def ask(at: int) -> object:
            typed = {"q": words(at), **({"field": field} if field else {})}
            return fresh.search(dataset, {"query": {"text": typed}}, limit=10, include=everything)

        return ask

    def near(filters: dict[str, Any] | None = None, by_value: bool = False) -> Callable[[int], object]:
        def ask(at: int) -> object:
            place = at % len(some)
            which = {"value": vectors[place]} if by_value else {"record_id": some[place]["id"]}
            body = {"query": {"vector": {"name": "embedding", **which}}, **(filters or {})}
            return fresh.search(dataset, body, limit=50, include=everything)

        return ask

    def phrase(at: int) -> str:
        words = some[at % len(some)]["fields"]["text"].split()
        return f'"{" ".join(words[:3])}"'

    def in_rounds(first: int, rounds: int) -> dict[str, Any]:
        scope = {"entity": "metadata", "metadata_property": "round"}
        return {"filters": {"and": [{"type": "range", "scope": scope, "ge": first, "le": first + rounds - 1}]}}

    order = {"scope": {"entity": "metadata", "metadata_property": "score"}, "order": "desc"}

    def by_score(at: int) -> object:
        return fresh.search(dataset, {**in_rounds(at % ROUNDS, 1), "sort": [order]}, limit=10, include=everything)

    word = corpus.words
    return {
        "a queue page": lambda _: fresh.queue(dataset),
        "a queue page, 25,000 answered": lambda _: busy.queue(dataset),
        "what waits, by score, 20,000 further": lambda _: busy.search(
            dataset, {**answered("pending"), "sort": [order]}, limit=10, offset=further, include=everything
        ),
        "text, a rare word": text(lambda at: word[-1 - at]),
        "text, a frequent word": text(lambda at: word[at % 3]),
        "text, two words": text(lambda at: f"{word[20 + at]} {word[60 + at]}"),
        "text, two frequent words": text(lambda at: f"{word[at % 3]} {word[3 + at % 3]}"),
        "text, a phrase": text(phrase),
        "text, a part of a word": text(lambda at: f"{word[500 + at][:3]}*"),
        "text, without spaces": text(lambda _: "日本語"),
        "text, in one field": text(lambda at: word[100 + at], "title"),
        "like a record": near(),
        "like a record, 1 in 20 allowed": near(in_rounds(3, 1)),
        "like a record, half allowed": near(in_rounds(3, ROUNDS // 2)),
        "like a record, unanswered": near(answered("pending")),
        "like a vector": near(by_value=True),
        "like a vector, half allowed": near(in_rounds(3, ROUNDS // 2), by_value=True),
        "progress of all": lambda _: owner.ask("GET", f"datasets/{dataset}/progress"),
        "progress of people": lambda _: owner.ask("GET", f"datasets/{dataset}/users/progress"),
        "progress of one": lambda _: busy.ask("GET", f"me/datasets/{dataset}/metrics"),
        "one round, by score": by_score,
        "the last 1,000 records": lambda _: owner.ask(
            "GET", f"datasets/{dataset}/records", offset=last, limit=1000, include=everything
        ),
    }


def times(action: Callable[[int], object], repeats: int) -> list[float]:
    action(repeats)  # what the first one of a kind pays once is seen at the start
    return [took(lambda at=at: action(at)) for at in range(repeats)]  # type: ignore[misc]


def process(one: Server) -> Path:
    """What Linux says of the server."""
    running = one.home.running()
    assert running
    return Path(f"/proc/{running.pid}")


def peak_mb(one: Server) -> float:
    """The most memory that the server had so far."""
    return int((process(one) / "status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def cpu_seconds(one: Server) -> float:
    """The processor time that the server took so far; other programs on the machine leave it as it is, nearly."""
    fields = (process(one) / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size_mb(one: Server) -> float:
    return sum(path.stat().st_size for path in one.home.folder.glob("argilla.db*")) / 2**20


def spread(seconds: Sequence[float]) -> dict[str, float]:
    cut = quantiles(seconds, n=100, method="inclusive")
    return {"median": median(seconds), "p95": cut[94], "p99": cut[98], "max": max(seconds)}


def many(one: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Logging, requests and a start."""
    corpus, owner = Corpus(options.records), one.api()
    known = [each["id"] for each in owner.ask("GET", "me/datasets")["items"] if each["name"] == "many"]
    made: dict[str, Any] = {}
    if known:
        (dataset,) = known
    else:
        used = cpu_seconds(one)
        dataset, bulk_seconds = log(owner, corpus)
        used = cpu_seconds(one) - used
        late = bulk_seconds[-(5000 // BULK) :]
        rates = [sum(n for n, _ in some) / sum(seconds for _, seconds in some) for some in (bulk_seconds, late)]
        print(
            f"logging: {rates[0]:.0f} records/s, the last 5,000 {rates[1]:.0f}; "
            f"{used / corpus.count * 1000:.2f} ms of the server's CPU each; peak {peak_mb(one):.0f} MB",
            flush=True,
        )
        answers = answer_many(one, dataset, corpus, corpus.count // 2)
        print(f"{answers:,} answers; {size_mb(one):.0f} MB on the disk, peak {peak_mb(one):.0f} MB", flush=True)
        made["logging"] = {"bulks": bulk_seconds, "records_per_second": rates[0], "last_5000": rates[1], "cpu": used}
        made |= {"answers": answers, "peak_mb": peak_mb(one), "database_mb": size_mb(one)}
    made["requests"] = {}
    for name, ask in kinds(one, dataset, corpus).items():
        used = cpu_seconds(one)
        seconds = times(ask, options.repeats)
        used = (cpu_seconds(one) - used) / (options.repeats + 1)
        told = made["requests"][name] = {**spread(seconds), "cpu": used, "seconds": seconds}
        goal = next((most for begin, most in GOALS.items() if name.startswith(begin)), None)
        over = f"   over {goal * 1000:.0f}" if goal and told["median"] > goal else ""
        shown = [f"{seconds * 1000:>7.0f} ms" for seconds in (told["median"], told["p95"], used)]
        print(f"{name:<40}{shown[0]}{shown[1]} p95{shown[2]} CPU{over}", flush=True)
    made["peak_mb_asked"] = peak_mb(one)
    one.command("down")
    began = time.perf_counter()
    one.up()
    made["up"] = time.perf_counter() - began
    some = {"vector": {"name": "embedding", "value": [1.0] * WIDTH}}
    one.api().search(dataset, {"query": some}, limit=50)
    made["first_similar"] = time.perf_counter() - began
    made["peak_mb_started"] = peak_mb(one)
    print(f"start: {made['up']:.1f} s, a first answer by vector after {made['first_similar']:.1f} s", end=", ")
    print(f"{made['peak_mb_asked']:.0f} MB before, {made['peak_mb_started']:.0f} MB after")
    return made


def people(one: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Eight people at once."""
    from test_server_people import LABELS, kept_answers, work

    dataset = one.api().dataset(
        questions={"label": label_question(*LABELS)}, metadata={"rank": "integer"}, name=f"people {time.time()}"
    )
    wanted = PEOPLE * options.people
    start = time.perf_counter()
    done = work(one, dataset, options.people, pushed=wanted + 1000, first=1000, pause=options.pause)
    wall = time.perf_counter() - start
    kept = kept_answers(one, dataset)
    counts = Counter(record for _, record in done.given)
    lost = sum(kept.get(key) != label for key, label in done.given.items())
    told = {"answer": spread(done.answering), "queue page": spread(done.paging), "push of 50": spread(done.pushing)}
    print(f"{len(done.given)} of {wanted} answers in {wall:.0f} s: {lost} lost, {len(kept) - len(done.given)} unknown")
    print(f"{len(done.errors)} errors {done.errors[:3]}; {sum(n > 1 for n in counts.values())} records answered twice")
    for name, each in told.items():
        print(f"{name:<12}" + "".join(f"{key} {seconds * 1000:>6.0f} ms   " for key, seconds in each.items()))
    return {
        "answers": len(done.given),
        "seconds": wall,
        "lost": lost,
        "errors": done.errors,
        "answered_twice": sum(count > 1 for count in counts.values()),
        "times": told,
        "peak_mb": peak_mb(one),
    }


def kills(one: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Killed again and again."""
    from test_server_crash import Crash

    crash, found, sizes = None, [], Counter[str]()
    errors: list[str] = []
    for at in range(options.kills):
        if at % 10 == 0:
            crash = Crash(one, f"kills {time.time()}")
        assert crash
        before = sum(person.acknowledged for person in crash.people), crash.behind
        crash.kill_once()
        sizes["answers"] += sum(person.acknowledged for person in crash.people) - before[0]
        sizes["behind"] += crash.behind - before[1]
        sizes["under way"] += sum(map(len, (person.sent for person in crash.people)))
        one.up()
        new = crash.differences()
        found += [f"kill {at}: {each}" for each in new]
        errors += crash.errors
        crash.errors.clear()
        if new or at % 10 == 9:
            print(f"{at + 1} kills, {sizes['answers']} answers, {len(found)} differences", *new, flush=True)
    print(
        f"{options.kills} kills, {sizes['answers']} answers acknowledged, {sizes['under way']} under way, "
        f"{sizes['behind']} records had a status to repair: {len(found)} differences, {len(errors)} errors {errors[:3]}"
    )
    return {**sizes, "kills": options.kills, "differences": found, "errors": errors}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=30, help="requests of each kind")
    parser.add_argument("--people", type=int, help="in place of the above: so many answers by each of eight people")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two pushes beside people's answers")
    parser.add_argument("--kills", type=int, help="in place of the above: so many kills")
    parser.add_argument(
        "--folder", type=Path, help="a folder for the server's data, kept, and not filled again; else none is"
    )
    parser.add_argument("--port", type=int, help="that the server answers on; else a free one")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


@contextmanager
def place(kept: Path | None) -> Iterator[Path]:
    folder = kept or Path(tempfile.mkdtemp(prefix="nlp-al-server-"))
    try:
        yield folder / "argilla"
    finally:
        if not kept:
            shutil.rmtree(folder)


def main() -> None:
    options = arguments()
    part = people if options.people else kills if options.kills else many
    with place(options.folder) as folder, server(folder, PEOPLE, options.port) as one:
        made = part(one, options)
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name not in ("json", "folder", "port")}
        options.json.write_text(json.dumps({"settings": settings, **made}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
