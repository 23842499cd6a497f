"""Heads on layers, and what the metrics of a round are of, are dealt out to processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from live_models import lively_model

SCRIPT = """
import json, sys, torch
sys.path.insert(0, {tests!r})
sys.path.insert(0, {tests!r} + "/unit")
from live_models import case
from test_layers import labels_of
from nlp_al.processes import processes
from nlp_al.samplers import Fitted, make_sampler
from nlp_al.scores import predict
from nlp_al.signals.collector import collect_members

found = {{}}
for name in ("full text", "full words", "full pairs", "full apart", "frozen words", "frozen apart"):
    made, state = case({folder!r}, name, batch_size=3), processes()
    labelled = list(zip(made.pool, labels_of(made), strict=True))[:7]
    other = case({folder!r}, name, batch_size=3).scorer
    if name.startswith("full") and hasattr(other, "model"):
        with torch.no_grad():
            for weights in other.model.parameters():
                weights.mul_(0.9)
    both = lambda averaged=False: iter([made.scorer, other][: 1 if averaged else 2])
    about = Fitted(made.scorer, labelled, seed=lambda _: 0, another=None, snapshots=both)
    for wanted in ("passes", "sampled"):
        committees = make_sampler("layers", {{}}).committees(about)
        signals = collect_members(made.scorer, committees, made.pool, {{wanted, "embeddings"}}, torch.Generator())
        if state.is_main_process:
            values = signals.passes if wanted == "passes" else signals.sampled.mean
            found[name + wanted] = [values.tolist(), signals.offsets.tolist(), signals.embeddings.tolist()]
    if name.startswith("full"):
        for how in ("ens", "swa"):
            judges = make_sampler("snapshots", {{"evaluate": how}}).judges
            said = predict(
                made.scorer, None, made.scorer.task, made.pool, torch.Generator(), lambda: judges(about)
            )
            if state.is_main_process:
                found[name + how] = said
if state.is_main_process:
    with open({out!r}, "w") as file:
        json.dump(found, file)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def test_two_processes_find_what_one_finds(tmp_path):
    folder, tests = lively_model(tmp_path / "model"), str(Path(__file__).parents[1])
    found = []
    for processes in (1, 2):
        script, out = tmp_path / f"{processes}.py", tmp_path / f"{processes}.json"
        script.write_text(SCRIPT.format(tests=tests, folder=folder, out=str(out)))
        cache = str(tmp_path / f"cache{processes}")
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "NLP_AL_CACHE": cache}
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(out.read_text()))
    one, two = found
    assert len(one) == 6 * 2 + 4 * 2
    assert one.keys() == two.keys()
    for name, values in one.items():
        if name.endswith(("passes", "sampled")):  # a product may differ in its last digit with its place in memory
            for mine, theirs in zip(values, two[name], strict=True):
                torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), rtol=1e-5, atol=1e-6)
        else:
            assert two[name] == values
    # The mean of two models is not the model.
    assert one["full wordsens"] != one["full wordsswa"]
