"""Passes with gradients are dealt out to processes, and a frozen model's head with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from live_models import lively_model

SCRIPT = """
import json, sys, torch
sys.path.insert(0, {tests!r})
from live_models import case
from nlp_al.processes import processes
from nlp_al.signals.collector import SCORED, collect

found = {{}}
for name in ("full words", "frozen text", "frozen apart"):
    made, state = case({folder!r}, name, batch_size=3), processes()
    needs = {{f"scores.{{score}}" for score in SCORED}}
    signals = collect(made.scorer, made.pool, {{"probs", *needs}}, torch.Generator())
    if state.is_main_process:
        found[name] = {{key: values.tolist() for key, values in sorted(signals.scores.items())}}
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
    assert found[0] == found[1]
    assert all(len(scores) == 4 for scores in found[0].values())
