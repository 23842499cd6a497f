"""Active learning for dialogue response selection.

The data of the demo, before all else:
    python recipes/data/chitchat.py

One process:
    python recipes/response_selection.py --config configs/response_selection/chitchat.yaml

Any key of the config, on the command line:
    python recipes/response_selection.py --config configs/response_selection/chitchat.yaml \\
        --strategy badge --loop.batch 10 --run_dir runs/chitchat-badge

Data of your own, with candidates or with a file of responses to draw them from:
    configs/response_selection/local_jsonl.yaml
    configs/response_selection/local_bank.yaml

Many runs in one process, features shared:
    python recipes/response_selection.py --config configs/response_selection/chitchat.yaml \\
        --sweep.strategy margin,random --sweep.loop.seed 0,1,2,3,4

Several GPUs, or several processes on the CPU:
    accelerate launch --num_processes 4 recipes/response_selection.py --config FILE
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/response_selection.py --config FILE

The same command again goes on where it was. `nlp-al report runs/*` draws what came out.
"""

import sys

from nlp_al.config import parse_arguments
from nlp_al.main import run_command


def main() -> None:
    """Command line to configs, each config to a run."""
    configs = parse_arguments(sys.argv[1:], about=__doc__, task="response-selection")

    from nlp_al.learner import run_all  # after the configs were checked: this loads torch

    run_all(configs)


if __name__ == "__main__":
    sys.exit(run_command(main))
