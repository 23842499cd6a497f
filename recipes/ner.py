"""x"""

import sys

from nlp_al.config import parse_arguments
from nlp_al.main import run_command


def main():
    configs = parse_arguments(sys.argv[1:], about=__doc__, task="token-classification")
    from nlp_al.learner import run_all

    run_all(configs)


if __name__ == "__main__":
    sys.exit(run_command(main))
