"""What a run leaves behind: the final model, the labelled set, and both on the Hub."""

from __future__ import annotations

import torch

from nlp_al.bench import Bench
from nlp_al.cards import model_card
from nlp_al.config import Config
from nlp_al.errors import RunError
from nlp_al.hub import push
from nlp_al.labelled import write_labelled
from nlp_al.pool import Pool
from nlp_al.processes import Bell, processes, shared
from nlp_al.progress import Progress
from nlp_al.scores import all_scores
from nlp_al.signals.collector import Scorer
from nlp_al.store import LABELLED, MODEL, RunDirectory
from nlp_al.training.fit import Fit, Fitter


def leave_model(
    config: Config,
    bench: Bench,
    pool: Pool,
    fitter: Fitter,
    last: Scorer,
    round_: int,
    generator: torch.Generator,
    progress: Progress,
    store: RunDirectory | None,
) -> None:
    """The final model, its metrics in `final.json`, and its card, which tells both; what is there stays as it is.

    last: the model of `round_`, the last round. All processes call it together; the main one has the store.
    """
    answers = len(pool.answers)
    about = shared(store.read_json("final.json") if store is not None else None)
    state = {"round": round_, "answers": answers, "labels": list(bench.task.labels)}
    if about is None or any(about.get(name) != value for name, value in state.items()):
        labelled = pool.labelled(answers)
        progress.final(len(labelled))
        fit = Fit(fitter.final(labelled, round_, answers, store, last), None, answers)
        scores = all_scores(bench, pool.labelled(answers, holdout=True), fit, generator)
        about = {**state, "labelled": len(labelled), **scores}
        if store is not None:
            store.write_json("final.json", about)
            progress.finished(about, store.path / MODEL)
    if store is not None:
        store.update(f"{MODEL}/README.md", model_card(config, bench.task, pool, about))


def hand_over(
    config: Config, bench: Bench, pool: Pool, bell: Bell, progress: Progress, store: RunDirectory | None
) -> None:
    """Leaves the labelled set, and puts what the config says on the Hub.

    Raises:
        RunError: the Hub did not take it.
    """

    def leave_it() -> str:
        assert store is not None
        rows = write_labelled(store, config, bench, pool)
        progress.labelled(rows, store.path / LABELLED)
        return push(store, config.push_to_hub)

    wrong = bell.after(leave_it)
    processes().wait_for_everyone()  # the bell goes with the main process, and the others must have heard it
    if wrong:
        raise RunError(wrong)
