#!/usr/bin/env bash
# The real program on a CUDA device: seq2seq_test.sh PROGRAM
# It follows the CPU's losses, in f32 and in bf16; stops and resumes to the same bits; evaluates and predicts.
set -uo pipefail
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
faults=0
fail() {
  echo "FAILED: $*"
  faults=$((faults + 1))
}

for word in a b c ab ba bc cb abc cba cab bca aab bba ccb acb bab aca cbc abba cabc; do
  printf '%s\t%s\n' "$word" "$(rev <<<"$word")"
done >pairs.tsv
tiny=(train --train pairs.tsv --valid pairs.tsv --size 32 --feed-forward 32 --encoder-layers 1 --decoder-layers 1 --heads 2
  --batch-pairs 8 --dropout 0.1 --epochs 3 --warmup 2 --schedule constant --log-every 1)

# losses LOG: "epoch 1: loss per token 3.5475, valid 2.8483" as numbers, one epoch a line.
losses() { sed -n 's/^epoch [0-9]*: loss per token \([0-9.]*\), valid \([0-9.]*\)$/\1 \2/p' "$1"; }
# close A B TOLERANCE: all numbers, relative.
close() {
  paste -d ' ' <(losses "$1") <(losses "$2") | awk -v most="$3" '
    NF != 4 { exit 1 }
    { for (i = 1; i <= 2; ++i) { d = ($i - $(i + 2)) / $i; if (d > most || d < -most) exit 1 } ++lines }
    END { if (lines != 3) exit 1 }' || fail "losses of $1 and $2 differ: $(losses "$1" | xargs) against $(losses "$2" | xargs)"
}

"$program" "${tiny[@]}" --device cpu --out cpu 2>cpu.log >/dev/null || fail "training on the CPU: $(cat cpu.log)"
"$program" "${tiny[@]}" --device cuda --out cuda 2>cuda.log >cuda.out || fail "training on cuda: $(cat cuda.log)"
"$program" "${tiny[@]}" --device cuda --precision bf16 --out bf16 2>bf16.log >/dev/null || fail "in bf16: $(cat bf16.log)"
close cpu.log cuda.log 0.0005
close cpu.log bf16.log 0.02  # bf16 keeps 8 bits
grep -q '"device":"cuda"' cuda.out || fail "the result does not name the device: $(cat cuda.out)"

# Stopped after five updates and resumed: the same bits.
"$program" "${tiny[@]}" --device cuda --out again --updates 5 2>again.log >/dev/null || fail "the short run: $(cat again.log)"
"$program" "${tiny[@]}" --device cuda --out again --updates 0 --resume 2>again.log >/dev/null || fail "resuming: $(cat again.log)"
cmp cuda/step-00000009/weights.safetensors again/step-00000009/weights.safetensors || fail "resumed weights differ"

# Steps as graphs: the same losses; stopped and resumed, the same bits. There are none on the CPU.
"$program" "${tiny[@]}" --device cuda --graphs --out graphs 2>graphs.log >/dev/null || fail "with graphs: $(cat graphs.log)"
close cpu.log graphs.log 0.0005
"$program" "${tiny[@]}" --device cuda --graphs --out more --updates 5 2>more.log >/dev/null || fail "the short run with graphs: $(cat more.log)"
"$program" "${tiny[@]}" --device cuda --graphs --out more --updates 0 --resume 2>more.log >/dev/null || fail "resuming with graphs: $(cat more.log)"
cmp graphs/step-00000009/weights.safetensors more/step-00000009/weights.safetensors || fail "resumed weights with graphs differ"
"$program" "${tiny[@]}" --device cpu --graphs --out none 2>none.log >/dev/null && fail "--graphs on the CPU was taken"
grep -q -- "--graphs is for CUDA devices" none.log || fail "--graphs on the CPU: $(cat none.log)"

# Gradients of weights on a second stream: the same bits, with graphs too.
"$program" "${tiny[@]}" --device cuda --graphs --weight-gradient-stream --out beside 2>beside.log >/dev/null || fail "with a second stream: $(cat beside.log)"
cmp graphs/step-00000009/weights.safetensors beside/step-00000009/weights.safetensors || fail "weights with a second stream differ"

"$program" evaluate --model cuda --device cuda --test pairs.tsv >evaluated 2>log || fail "evaluate: $(cat log)"
on_cuda=$(printf 'abc\nba\n' | "$program" predict --model cuda --device cuda) || fail "predict on cuda"
on_cpu=$(printf 'abc\nba\n' | "$program" predict --model cuda --device cpu) || fail "predict on the CPU"
[ "$on_cuda" = "$on_cpu" ] || fail "predictions differ: '$on_cuda' and '$on_cpu'"
[ "$faults" -eq 0 ] && echo "seq2seq on cuda: losses follow the CPU, resumed to the same bits, with graphs too"
exit "$faults"
