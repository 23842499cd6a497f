"""Active learning for named entity recognition.

One process:
    python recipes/ner.py --config configs/ner/tweets.yaml

Any key of the config, on the command line:
    python recipes/ner.py --config configs/ner/tweets.yaml \\
        --strategy token_entropy --loop.batch 500 --task_options.constrained true --run_dir runs/tweets-entropy

Many runs in one process, features shared:
    python recipes/ner.py --config configs/ner/tweets.yaml \\
        --sweep.strategy mnlp,random --sweep.loop.seed 0,1,2,3,4

Several GPUs, or several processes on the CPU:
    accelerate launch --num_processes 4 recipes/ner.py --config FILE
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/ner.py --config FILE

The same command again goes on where it was. `nlp-al report runs/*` draws what came out.
"""

import sys

from nlp_al.config import parse_arguments
from nlp_al.main import run_command


def main() -> None:
    """Command line to configs, each config to a run."""
    configs = parse_arguments(sys.argv[1:], about=__doc__, task="token-classification")

    from nlp_al.learner import run_all  # after the configs were checked: this loads torch

    run_all(configs)


if __name__ == "__main__":
    sys.exit(run_command(main))
