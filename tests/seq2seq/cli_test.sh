#!/usr/bin/env bash
# Runs the real program, as users do: cli_test.sh PROGRAM
# It learns a small task, stops and resumes to the same bits, and answers every bad input with one message and its status.
set -uo pipefail
# Under nohup SIGHUP is ignored, and under some services SIGPIPE, which no shell can undo.
[ -n "${CLI_TEST_AGAIN:-}" ] || CLI_TEST_AGAIN=1 exec env --default-signal=HUP,PIPE bash "$0" "$@"
export OMP_NUM_THREADS=1  # small matrices; and other tests run beside this one

program=$(realpath "$1")
work=$(mktemp -d)
child=
trap '[ -z "$child" ] || kill -s KILL $child 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
faults=0

fail() {
  echo "FAILED: $*"
  faults=$((faults + 1))
}

# expect STATUS TEXT COMMAND…: that status, and TEXT on stderr (as it stands, no pattern). Leaves the files out and err.
expect() {
  local status=$1 text=$2 got=0
  shift 2
  timeout 120 "$@" >out 2>err || got=$?
  [ "$got" -eq "$status" ] || fail "$*: status $got, expected $status; stderr: $(cat err)"
  [ -z "$text" ] || grep -qF -- "$text" err || fail "$*: expected '$text' on stderr, got: $(cat err)"
}

# refuse STATUS TEXT COMMAND…: fails with that status and one line of error, and writes nothing to stdout.
refuse() {
  expect "$@"
  [ "$(grep -c '^error: ' err)" -eq 1 ] || fail "${*:3}: expected one line 'error: …', got: $(cat err)"
  [ ! -s out ] || fail "${*:3}: wrote to stdout: $(cat out)"
}

same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
hash_of() { find "$1" -type f -exec sha256sum {} + | sort; }

tiny=(--size 32 --feed-forward 32 --encoder-layers 1 --decoder-layers 1 --heads 2 --batch-pairs 8 --learning-rate 5e-3
  --warmup 20 --label-smoothing 0)

# ---- It learns: 60 words of three symbols, Hangul and IPA with combining marks, are copied ---------------------------
symbols=(가 나 한 $'ɑ\u0303' ʃ $'t\u0361s')
for a in "${symbols[@]}"; do
  for b in "${symbols[@]}"; do
    for c in 가 $'ɑ\u0303'; do printf '%s%s%s\t%s%s%s\n' "$a" "$b" "$c" "$a" "$b" "$c"; done
  done
done >all.tsv
head -60 all.tsv >train.tsv
tail -12 all.tsv >valid.tsv

learn=(train --train train.tsv --valid valid.tsv --test train.tsv --out learnt "${tiny[@]}" --epochs 40)
expect 0 "epoch 40: loss per token" "$program" "${learn[@]}"
tail -1 out | grep -qE '^\{"task":"tsv","per":0\.00,"wer":0\.00,"words":60,"train_seconds":[0-9.]+,"target_tokens_per_second":[0-9]+,"device":"cpu"\}$' ||
  fail "the copy task was not learnt: $(tail -1 out)"
[ "$(wc -l <out)" -eq 14 ] || fail "expected a title, twelve samples and one line of JSON on stdout, got: $(cat out)"
grep -q ', valid ' err || fail "no loss of validation: $(cat err)"

command=$(sed -n 's/^use     //p' err)
[ "$command" = "$program predict --model learnt" ] || fail "how to use the model: '$command'"
cut -f1 train.tsv >sources
expect 0 "" bash -c "$command" <sources
same out sources

expect 0 "" "$program" evaluate --help
for name in per wer words; do grep -q "^  $name  .*" out || fail "evaluate --help does not explain $name"; done
expect 0 "" "$program" evaluate --model learnt --test train.tsv
grep -q '"per":0.00,"wer":0.00,"words":60,' out || fail "evaluate: $(cat out)"
expect 0 "" "$program" predict --model learnt <sources
same out sources
expect 0 "" "$program" predict --model learnt --batch-lines 1 <sources
same out sources
expect 0 "" "$program" predict --model learnt --beams 3 <sources
same out sources

# Several lines with one source are several references.
printf '가나가\t없다\n가나가\t가나가\n' >references.tsv
expect 0 "" "$program" evaluate --model learnt --test references.tsv
grep -q '"per":0.00,"wer":0.00,"words":1,' out || fail "several references: $(cat out)"

# ---- Stopped and resumed, a run ends with the weights of one that was not --------------------------------------------
# Dropout and accumulation over mini-batches, so that random state and open gradients count.
long=(train --train train.tsv "${tiny[@]}" --size 64 --dropout 0.1 --accumulate 3 --epochs 200 --checkpoint-every 50
  --log-every 1)
last=step-00001600
weights=$last/weights.safetensors

# start_and_hold FOLDER UPDATE [OPTION…]: trains in the background, as $child, until stderr shows that update, and halts it there:
# it goes on with SIGCONT, and meets then the signals that it was sent before. Where this shell was too slow to halt it, it starts anew.
start_and_hold() {
  local run=("${long[@]}") state
  [ $# -le 2 ] || run=("${@:3}")
  for _ in 1 2 3 4 5; do
    : >err  # or the words of the run before would be taken for those of this one
    "$program" "${run[@]}" --out "$1" >out 2>err &
    child=$!
    for _ in $(seq 6000); do
      ! grep -q "update $2/" err && kill -s 0 $child 2>/dev/null || break
      sleep 0.01
    done
    kill -s STOP $child 2>/dev/null
    for _ in $(seq 6000); do
      state=$(awk '/^State/ { print $2 }' /proc/$child/status 2>/dev/null)
      [ -n "$state" ] && [ "$state" != T ] && [ "$state" != Z ] || break
      sleep 0.01
    done
    [ "$state" != T ] || [ -e "$1/$last" ] || return
    kill -s KILL $child 2>/dev/null
    wait $child 2>/dev/null
    rm -rf "$1"
  done
  fail "never halted at update $2: $(tail -3 err)"
}

expect 0 "saved undisturbed/$last" "$program" "${long[@]}" --out undisturbed

for signal in TERM INT HUP; do
  start_and_hold "stopped_$signal" 20
  kill -s $signal $child
  kill -s CONT $child
  wait $child
  status=$?
  [ $status -eq $((128 + $(kill -l $signal))) ] || fail "SIG$signal: status $status; stderr: $(tail -3 err)"
  grep -q "stopping and saving" err || fail "SIG$signal: no word of saving"
  [ ! -s out ] || fail "SIG$signal: a stopped run wrote a result: $(cat out)"
  [ ! -e "stopped_$signal/$last" ] || fail "SIG$signal did not stop it"
  command=$(tail -1 err)
  expect 0 "resuming from stopped_$signal/step-" bash -c "$command"
  same "undisturbed/$weights" "stopped_$signal/$weights"
  same "undisturbed/$last/optimizer.safetensors" "stopped_$signal/$last/optimizer.safetensors"
done

# Under nohup, or when nobody reads stderr any more, it goes on.
trap '' HUP
start_and_hold outlives 20
kill -s HUP $child
kill -s CONT $child
wait $child || fail "a SIGHUP that was ignored ended the run: $(tail -3 err)"
trap - HUP
same "undisturbed/$weights" "outlives/$weights"
timeout 120 "$program" "${long[@]}" --out unread 2>&1 >out | head -1 >first_line
status=${PIPESTATUS[0]}
[ "$status" -eq 0 ] || fail "a stderr that nobody reads: status $status"
grep -q '^seq2seq libtrain' first_line || fail "the first line of stderr: $(cat first_line)"
same "undisturbed/$weights" "unread/$weights"
"$program" predict --model unread --batch-lines 1 < <(yes 가나가 | head -100000) 2>err | head -1 >out
[ "${PIPESTATUS[0]}" -eq 141 ] && [ ! -s err ] || fail "predict | head: ${PIPESTATUS[*]}, $(cat err)"

# Two signals at once: it leaves without saving.
start_and_hold twice 70
saved=$(ls twice)
kill -s TERM $child
kill -s INT $child
kill -s CONT $child
wait $child
status=$?
[ $status -eq 130 ] || [ $status -eq 143 ] || fail "two signals: status $status; stderr: $(tail -3 err)"
[ "$saved" = "$(ls twice)" ] || fail "two signals: saved $(ls twice)"

# Two runs in one folder would remove each other's checkpoints: the second is refused, and the first goes on.
start_and_hold shared 20
cp err err_of_first
refuse 2 "--out shared: another run trains there now" "$program" "${long[@]}" --out shared
refuse 2 "--out shared: another run trains there now" "$program" "${long[@]}" --out shared --resume
kill -s CONT $child
wait $child || fail "the first of two runs: $(tail -3 err_of_first)"
same "undisturbed/$weights" "shared/$weights"

# SIGUSR1 saves and goes on.
start_and_hold saved 20 "${long[@]}" --checkpoint-every 0
kill -s USR1 $child
kill -s CONT $child
wait $child || fail "SIGUSR1: the run failed: $(tail -3 err)"
[ "$(grep -c "^saved saved/step-" err)" -eq 2 ] && [ "$(find saved -maxdepth 1 -name 'step-*' | wc -l)" -eq 2 ] ||
  fail "SIGUSR1 saved nothing: $(grep saved err)"
same "undisturbed/$weights" "saved/$weights"

start_and_hold killed 70
kill -KILL $child
wait $child 2>/dev/null
expect 0 "resuming from killed/step-" "$program" "${long[@]}" --out killed --resume
same "undisturbed/$weights" "killed/$weights"

# The newest is damaged: the one before it is gone on from, with a warning, to the same bits; what is damaged is not lost.
cp -r undisturbed damaged
printf '\x55' | dd of="damaged/$weights" bs=1 seek=4000 conv=notrunc status=none
expect 0 "warning: [damaged/$weights] is damaged in 1 tensors, the first" "$program" predict --model damaged </dev/null
expect 0 "warning: [damaged/$weights] is damaged in 1 tensors, the first" "$program" "${long[@]}" --out damaged --resume
grep -q "resuming from damaged/step-00001[45]" err || fail "went on from elsewhere: $(cat err)"
same "undisturbed/$weights" "damaged/$weights"
same "undisturbed/$last/manifest.json" "damaged/$last/manifest.json"
[ -e "damaged/$last.damaged-1/weights.safetensors" ] || fail "the damaged checkpoint is gone: $(ls damaged)"

cp "undisturbed/$weights" undisturbed_weights

# A run that is over only scores; more epochs go on from there.
expect 0 "resuming from undisturbed/$last" "$program" train --out undisturbed --resume --train train.tsv
grep -q "^the run is complete already, after 200 epochs and 600 updates" err || fail "no word of being complete: $(cat err)"
! grep -q "^saved" err || fail "what was saved already is saved again: $(cat err)"
expect 0 "saved undisturbed/step-00001608" "$program" train --out undisturbed --resume --train train.tsv --epochs 201
[ "$(find undisturbed -maxdepth 1 -name 'step-*' | wc -l)" -eq 3 ] || fail "--keep 3 kept: $(ls undisturbed)"

# ---- Validation: the best checkpoint is saved and kept, is told at the end, and --best takes it ---------------------------------------
# Every target is the same in training. Those of validation end otherwise, so that the surer the model, the worse: the best is not the last.
cut -f1 train.tsv | sed $'s/$/\t가가가/' >alike.tsv
cut -f1 valid.tsv valid.tsv | sed $'s/$/\t가가ʃ/' >unlike.tsv
spoil=(train --train alike.tsv --valid unlike.tsv "${tiny[@]}" --epochs 12 --valid-every 7 --checkpoint-every 50 --keep 1
  --learning-rate 2e-2 --schedule constant --warmup 0 --seed 2)
expect 0 "best so far, saved spoilt/step-" "$program" "${spoil[@]}" --out spoilt
cp err spoilt_err
best=$(sed -n 's/^best so far, saved //p' err | tail -1)
grep -q "^best    valid [0-9.]*: $best" err || fail "the best is not told at the end: $(tail -3 err)"
[ -e "$best/manifest.json" ] && [ "$best" != spoilt/step-00000096 ] || fail "the best is $best, of: $(ls spoilt)"
[ "$(grep -o 'valid [0-9.]*' err | sort -k2 -g | head -1)" = "$(grep -o '^best    valid [0-9.]*' err | cut -c9-)" ] ||
  fail "another was better: $(grep valid err)"
[ "$(grep -c '^update 7: valid' err)" -eq 1 ] || fail "--valid-every: $(cat err)"
expect 0 "" "$program" predict --model spoilt --best <sources
cp out with_best
expect 0 "" "$program" predict --model "$best" <sources
same out with_best
refuse 2 "--best chooses among the checkpoints of a run" "$program" predict --model "$best" --best
refuse 4 "holds no checkpoint with a loss of validation" "$program" predict --model undisturbed --best
# Stopped and resumed, it has the same best and the same bits.
expect 0 "" "$program" "${spoil[@]}" --out spoilt_on --epochs 5
expect 0 "" "$program" "${spoil[@]}" --out spoilt_on --resume
same spoilt/step-00000096/weights.safetensors spoilt_on/step-00000096/weights.safetensors
same "$best/weights.safetensors" "spoilt_on/${best#*/}/weights.safetensors"

# --patience ends it three validations behind the best, also when it was stopped in between. Without, it goes on.
expect 0 "training ends: 3 validations brought no lower loss (--patience)" "$program" "${spoil[@]}" --out patient --patience 3
valid=$(grep -o 'valid [0-9.]*$' err | cut -c7-)
[ "$(sort -g <<<"$valid" | head -1)" = "$(tail -4 <<<"$valid" | head -1)" ] || fail "--patience 3 ended elsewhere: $(grep valid err)"
end=$(basename "$(ls -d patient/step-* | tail -1)")
[ "$end" != step-00000096 ] && [ -n "$(sed -n 's/^use     //p' err)" ] || fail "--patience 3 ended at $end: $(tail -3 err)"
expect 0 "" "$program" "${spoil[@]}" --out patient_on --patience 3 --epochs 3
behind=$(head -6 <<<"$valid" | awk '{ if (NR == 1 || $1 < least) { least = $1; best = NR } } END { print NR - best }')
[ "$behind" -eq 2 ] && grep -q "\"without_gain\": 2" patient_on/step-00000024/manifest.json || fail "not $behind without gain: $(grep valid err)"
expect 0 "" "$program" "${spoil[@]}" --out patient_on --patience 3 --epochs 12 --resume
same "patient/$end/weights.safetensors" "patient_on/$end/weights.safetensors"
same "patient/$end/manifest.json" "patient_on/$end/manifest.json"
expect 0 "complete already: 3 validations brought no lower loss" "$program" "${spoil[@]}" --out patient --patience 3 --resume
[ "$(ls -d patient/step-* | tail -1)" = "patient/$end" ] || fail "a run without patience went on: $(ls patient)"
expect 0 "" "$program" "${spoil[@]}" --out patient --patience 0 --resume
same spoilt/step-00000096/weights.safetensors patient/step-00000096/weights.safetensors
refuse 2 "--patience 2: there are no pairs to validate" "$program" train --train train.tsv --patience 2 --out new

# A stop does not wait for the validation that is due; going on makes it up. At this rate no validation is better than the first.
head -1 valid.tsv >one_valid.tsv  # most signals then come in training
every=(train --train train.tsv --valid one_valid.tsv "${tiny[@]}" --epochs 40 --valid-every 1 --checkpoint-every 0
  --learning-rate 1e-20 --schedule constant --warmup 0 --patience 200)
expect 0 "training ends: 200 validations" "$program" "${every[@]}" --out every
for update in 1 3 5 7; do
  start_and_hold every_$update $update "${every[@]}" --log-every 1
  kill -s TERM $child
  kill -s CONT $child
  wait $child
  expect 0 "" "$program" "${every[@]}" --out every_$update --resume
  same every/step-00000201/manifest.json every_$update/step-00000201/manifest.json
done

# A running average changes nothing of the training; it is what is validated, scored and used, also when the run was stopped in between.
expect 0 "" "$program" "${spoil[@]}" --out averaged --average-decay 0.95 --test train.tsv
scores=$(tail -1 out | grep -o '"per":[0-9.]*,"wer":[0-9.]*')
spoilt_loss=$(grep -o 'valid [0-9.]*$' spoilt_err | tail -1 | cut -c7-)
loss=$(grep -o 'valid [0-9.]*$' err | tail -1 | cut -c7-)
[ -n "$loss" ] && [ "$loss" != "$spoilt_loss" ] || fail "what is validated is not the average: $loss, $spoilt_loss"
same spoilt/step-00000096/weights.safetensors averaged/step-00000096/weights.safetensors
expect 0 "" "$program" evaluate --model averaged --test train.tsv
[ "$(tail -1 out | grep -o '"per":[0-9.]*,"wer":[0-9.]*')" = "$scores" ] || fail "evaluate uses other weights than the run: $(tail -1 out), $scores"
for decay in 0 0.98; do
  expect 0 "" "$program" train --train train.tsv "${tiny[@]}" --epochs 12 --average-decay $decay --out "decay_$decay"
  expect 0 "" "$program" predict --model "decay_$decay" < <(cut -f1 all.tsv)
  cp out "by_decay_$decay"
done
! cmp -s by_decay_0 by_decay_0.98 || fail "the average predicts what the weights do: $(cat out)"
expect 0 "" "$program" "${spoil[@]}" --out averaged_on --average-decay 0.95 --test train.tsv --epochs 5
expect 0 "" "$program" "${spoil[@]}" --out averaged_on --average-decay 0.95 --test train.tsv --resume --epochs 12
same averaged/step-00000096/optimizer.safetensors averaged_on/step-00000096/optimizer.safetensors
mkdir average_of_two && cp averaged/step-00000096/{manifest.json,weights.safetensors} average_of_two
refuse 4 "optimizer.safetensors] is missing" "$program" predict --model average_of_two <sources
refuse 2 "--average-decay must be in [0, 1), got 1" "$program" train --train train.tsv --average-decay 1 --out new

# A model is used with two files of a checkpoint. Rare symbols are <unk>, and trained so.
mkdir used && cp "patient_on/$end"/{manifest.json,weights.safetensors} used
expect 0 "" "$program" predict --model "patient_on/$end" <sources
cp out by_whole
expect 0 "" "$program" predict --model used <sources
same out by_whole
expect 0 "rare symbols, left out of the vocabularies, in the training pairs: 1" "$program" train --train train.tsv \
  "${tiny[@]}" --epochs 1 --vocab-size 6 --out rare
grep -q "vocabularies 6 and 6" err || fail "--vocab-size: $(cat err)"
refuse 2 "--vocab-size must be > 4" "$program" train --train train.tsv --vocab-size 4 --out new
refuse 2 "--min-count must be >= 1, got 0" "$program" train --train train.tsv --min-count 0 --out new

# What validates at an epoch's end and by --valid-every does so once; a checkpoint is told once.
expect 0 "" "$program" train --train train.tsv --valid valid.tsv "${tiny[@]}" --epochs 2 --valid-every 8 --checkpoint-every 8 --out once
[ "$(grep -c 'valid [0-9.]*$' err)" -eq 2 ] && [ "$(grep -c 'saved once/step-' err)" -eq 2 ] || fail "told twice: $(cat err)"

# With a rewind, whatever the loop stops for saves: after it, updates that are not finite are counted anew.
expect 0 "" "$program" train --train train.tsv --valid valid.tsv "${tiny[@]}" --epochs 2 --valid-every 3 --checkpoint-every 4 --keep 0 \
  --on-nonfinite rewind --out rewinding
[ "$(find rewinding -name 'step-*' | wc -l)" -eq 16 ] || fail "pauses without a checkpoint: $(ls rewinding)"

# Validation takes no larger batches than training: what fits goes on fitting. What cannot fit costs no more than the time since.
wide=(train --train train.tsv --size 16 --heads 2 --feed-forward 8192 --encoder-layers 1 --decoder-layers 1 --batch-pairs 2 --epochs 1
  --max-length 20000 --schedule constant --warmup 0)
line=$(printf 'x%.0s' {1..120})
for _ in $(seq 128); do printf '%s\t%s\n' "$line" "$line"; done >many_valid.tsv
printf '%s\t%s\n' "$(printf 'x%.0s' {1..18000})" y >long_valid.tsv
export MALLOC_ARENA_MAX=1  # how much of them is reserved would depend on which threads meet: here and below
start_and_hold wide 20 "${wide[@]}" --epochs 100 --log-every 1
room=$(awk '/^VmPeak/ { print $2 + 100000 }' /proc/$child/status)  # with much less, OpenBLAS would ask for ever
within=(bash -c 'ulimit -v "$0" && exec "$@"' "$room")
kill -KILL $child
wait $child 2>/dev/null
expect 0 ", valid " "${within[@]}" "$program" "${wide[@]}" --valid many_valid.tsv --out wide_many
refuse 5 "memory" "${within[@]}" "$program" "${wide[@]}" --valid long_valid.tsv --out wide_long
grep -q '^saved wide_long/step-00000030' err && [ -e wide_long/step-00000030/manifest.json ] ||
  fail "a validation that failed lost the epoch: $(cat err)"

# --updates goes beyond the default of --epochs, and the weights at its end are validated.
short=(train --train train.tsv --valid valid.tsv "${tiny[@]:0:12}" --updates 60)
expect 0 "update 60: valid" "$program" "${short[@]}" --out by_updates
[ -e by_updates/step-00000060 ] && grep -q "^plan    8 epochs of 8 mini-batches, at most 60 updates" err || fail "--updates: $(cat err)"
head -1 train.tsv >one.tsv
expect 0 "the warm-up of 20 updates takes the whole run of 1 update;" "$program" train --train one.tsv --valid one.tsv "${tiny[@]}" --heads 1 --epochs 1 --out one
grep -q "tsv: 1 pair, 1 to" err && grep -q "1 epoch of 1 mini-batch," err && grep -q ", 1 head," err || fail "plurals: $(cat err)"

# ---- Bad input: one message, its status, and nothing that was written is lost ----------------------------------------
before=$(hash_of learnt)
new=(--out new "${tiny[@]}" --epochs 1)
bad() { refuse 3 "$1" "$program" train --train "$2" "${new[@]}"; }

: >empty.tsv
printf '\n  \n' >blank.tsv
printf 'a\tb\nab\n' >no_tab.tsv
printf 'a\tb\tc\n' >two_tabs.tsv
printf 'a\tb\n\tb\n' >no_source.tsv
printf 'a\tb\na\t\n' >no_target.tsv
printf 'a\tb\na\xff\tb\n' >latin.tsv
printf 'a\tb\na\0\tb\n' >nul.tsv
printf '%0200d\tb\n' 7 >long.tsv
bad "[missing.tsv] expected a readable text file" missing.tsv
bad "[learnt] expected a readable text file" learnt
bad "[empty.tsv] expected at least one pair, got an empty file" empty.tsv
bad "[blank.tsv] expected at least one pair, got blank lines only" blank.tsv
bad "[no_tab.tsv:2] expected a tab" no_tab.tsv
bad "[two_tabs.tsv:1] expected one tab, got more" two_tabs.tsv
bad "[no_source.tsv:2] expected text on both sides of the tab, got an empty source" no_source.tsv
bad "[no_target.tsv:2] expected text on both sides of the tab, got an empty target" no_target.tsv
bad "[latin.tsv:2] expected UTF-8, got byte 0xFF" latin.tsv
bad "[nul.tsv:2] expected text, got a NUL byte" nul.tsv
bad "[long.tsv:1] expected at most 128 tokens a side, got 200 in the source" long.tsv
refuse 3 "[no_tab.tsv:2]" "$program" train --train train.tsv --valid no_tab.tsv "${new[@]}"
refuse 3 "[no_tab.tsv:2]" "$program" train --train train.tsv --test no_tab.tsv "${new[@]}"
refuse 3 "[no_tab.tsv:2]" "$program" evaluate --model learnt --test no_tab.tsv
refuse 3 "[missing.dict]" "$program" train --cmudict missing.dict "${new[@]}"
rm -rf new

printf 'a\tb\r\nab\tba\r\n' >crlf.tsv
printf 'a\tb\nab\tba\n' >lf.tsv
expect 0 "" "$program" train --train crlf.tsv --out crlf "${tiny[@]}" --epochs 2
expect 0 "" "$program" train --train lf.tsv --out lf "${tiny[@]}" --epochs 2
same crlf/step-00000002/weights.safetensors lf/step-00000002/weights.safetensors

refuse 2 "unknown option '--epoch' (did you mean '--epochs'?)" "$program" train --epoch 3
refuse 2 "unknown argument 'trian' (did you mean 'train'?)" "$program" trian
refuse 2 "expected a command" "$program"
refuse 2 "--heads 2 must divide --size 33" "$program" train --train train.tsv "${new[@]}" --size 33
refuse 2 "--model is required" "$program" predict
refuse 6 "--device cuda: no usable CUDA device" env CUDA_VISIBLE_DEVICES= "$program" train --device cuda
[ ! -e new ] || fail "a command line that was refused made a folder"

# Prediction: unknown symbols are counted, an empty line answers an empty line, a bad one is named after the rest is out.
printf '가나가\n\nxy가\r\n' >unknown
expect 0 "were read as <unk>: 2" "$program" predict --model learnt <unknown
[ "$(wc -l <out)" -eq 3 ] && [ "$(sed -n 1p out)" = 가나가 ] && [ -z "$(sed -n 2p out)" ] || fail "predict: $(cat out)"
printf '가나가\na\xff\n' >latin
expect 3 "error: [stdin:2] expected UTF-8, got byte 0xFF at byte offset 1 of the line" "$program" predict --model learnt <latin
[ "$(cat out)" = 가나가 ] || fail "predict: the lines before a bad one were not answered: $(cat out)"
printf '가\0\n' >nul
refuse 3 "[stdin:1] expected text, got a NUL byte" "$program" predict --model learnt <nul
head -c 200 /dev/zero | tr '\0' a >long
refuse 3 "[stdin:1] a source of 200 tokens is longer" "$program" predict --model learnt <long
expect 3 "error: [stdin:2] expected lines of at most 1048576 bytes" "$program" predict --model learnt < <(
  echo 가나가
  cat /dev/zero
)
[ "$(cat out)" = 가나가 ] || fail "predict: an endless line took the answers before it: $(cat out)"
refuse 3 "[stdin] expected a readable text file" "$program" predict --model learnt <&-
printf '\xef\xbb\xbf가나가\n' >marked
expect 0 "" "$program" predict --model learnt <marked
[ "$(cat out)" = 가나가 ] || fail "predict: a byte order mark was read as text: $(cat out)"
if [ -e /dev/full ]; then
  timeout 60 "$program" predict --model learnt <sources >/dev/full 2>err
  [ $? -eq 3 ] && grep -q "^error: \[stdout\]" err || fail "a full disk went unnoticed: $(cat err)"
fi

refuse 3 "tokens on a side, expected at most 19; raise --max-length" "$program" train "${new[@]}" --max-length 19
rm -rf new

# Numbers without sense end neither in a hang nor in a crash.
expect 0 "" "$program" train --train train.tsv "${new[@]}" --batch-pairs 1000000000 --batch-tokens 1000000000
rm -rf new
refuse 5 "MiB, and 500.0 MiB are available" bash -c 'ulimit -v 4000000 && "$@"' sh "$program" train --train train.tsv "${new[@]}" \
  --size 8192 --heads 64 --feed-forward 65536 --encoder-layers 12 --memory-limit 500
rm -rf new
refuse 5 "error: out of memory; use a smaller model" bash -c 'ulimit -v 4000000 && "$@"' sh "$program" train \
  --train train.tsv "${new[@]}" --max-length 1000000000
rm -rf new

# Output folders.
refuse 2 "holds a run already" "$program" train --train train.tsv "${tiny[@]}" --out learnt
: >file
refuse 3 "--out file/run: " "$program" train --train train.tsv "${tiny[@]}" --out file/run
refuse 4 "[nowhere] is no folder" "$program" train --train train.tsv --out nowhere --resume
[ ! -e nowhere ] || fail "--resume made a folder"

# A save that fails in mid-training costs that checkpoint alone: here something else has the folder's name for a while.
start_and_hold away 20
mv away aside
: >away
kill -s CONT $child
for _ in $(seq 3000); do
  ! grep -q "^warning: not saved" err || break
  sleep 0.01
done
kill -s STOP $child
rm away
mv aside away
kill -s CONT $child
wait $child || fail "a save that failed in mid-training ended the run: $(tail -3 err)"
grep -q "^warning: not saved: .*; training goes on, and the next save tries again$" err || fail "no warning: $(grep -v ^epoch err)"
same "undisturbed_weights" "away/$weights"

# A disk that fills up in mid-training, in a name space of its own: what is complete stays, nothing half-written does, and
# with room again the run goes on to the same bits.
cat >small_disk <<'EOF'
mount -t tmpfs -o size=1m none small || exit 1
"$@"
status=$?
cp -r small/. filled  # the disk goes with its name space
exit $status
EOF
mkdir small filled
small_disk=(unshare --user --map-root-user --mount bash small_disk)
if "${small_disk[@]}" true 2>err; then
  refuse 3 "No space left on device" "${small_disk[@]}" "$program" "${long[@]}" --out small/run --keep 0
  grep -qE '; [0-9]+ bytes to write, [0-9]+ free: make room' err && grep -q -- "--out small/run --keep 0 --resume" err ||
    fail "a full disk: $(cat err)"
  [ "$(grep -c "^warning: not saved: .*No space left on device" err)" -gt 3 ] || fail "a full disk ended training: $(cat err)"
  [ -n "$(ls filled/run)" ] && [ -z "$(find filled -name '*tmp*')" ] || fail "a full disk left: $(ls filled/run)"
  cp -r filled/run small
  expect 0 "resuming from small/run/step-" "$program" "${long[@]}" --out small/run --keep 0 --resume
  same "undisturbed_weights" "small/run/$weights"
else
  echo "not tested: a full disk; no name space for a small one ($(head -1 err))"
fi

# Checkpoints: contradictions, other data, damage, foreign files.
refuse 2 "--size 64 contradicts the run, which was started with 32" "$program" "${learn[@]}" --resume --size 64
refuse 3 "the training pairs are not those of the run" "$program" "${learn[@]}" --resume --train all.tsv
refuse 4 "[nowhere] is no folder" "$program" predict --model nowhere
refuse 4 "holds no complete checkpoint" "$program" evaluate --model .

# damage NAME TEXT COMMAND…: after COMMAND on a copy, in its folder, the checkpoint is refused with TEXT.
damage() {
  rm -rf "$1"
  cp -r learnt/step-* "$1"
  (cd "$1" && "${@:3}")
  refuse 4 "$2" "$program" evaluate --model "$1" --test train.tsv
  mkdir "in_$1" && cp -r "$1" "in_$1/step-00000009"
  refuse 4 "$2" "$program" "${learn[@]}" --out "in_$1" --resume
}
rm -rf learnt_copy && cp -r learnt learnt_copy
find learnt -maxdepth 1 -name 'step-*' | sort | head -n -1 | xargs -r rm -r  # one is enough to damage
damage truncated "the manifest says" truncate -s 100 weights.safetensors
damage flipped "is damaged" bash -c 'printf "\x55" | dd of=weights.safetensors bs=1 seek=4000 conv=notrunc status=none'
damage no_weights "is missing" rm weights.safetensors
damage foreign "field 'format'" bash -c "echo '{\"a\": 1}' >manifest.json"
damage no_json "manifest: no JSON (byte 0 of the file)" bash -c 'echo weights >manifest.json'
cp -r learnt/step-* vocabulary
sed -i 's/^\( *\)"<unk>",/\1"<unk>", "more",/' vocabulary/manifest.json
refuse 4 "is damaged or was edited" "$program" predict --model vocabulary <sources
rm -rf learnt && mv learnt_copy learnt

# ---- Training that diverges: operation and parameter are named, the last finite weights saved, and nothing is repeated for ever ----------
explode=(train --train train.tsv "${tiny[@]}" --epochs 9 --learning-rate 1e25 --warmup 0 --schedule constant)
expect 7 "error: [train_loop] update 21 is not finite and changed nothing" "$program" "${explode[@]}" --out diverged
grep -q 'It is number 20 in a row' err || fail "no count in a row: $(cat err)"
[ "$(grep -c '^warning: update .* (operation .*; its parameter is .*; gradients of .* parameters are not finite' err)" -eq 20 ] ||
  fail "expected twenty warnings that name operation and parameter, got: $(cat err)"
grep -q '^saved diverged/step-00000021' err || fail "nothing was saved: $(cat err)"
expect 7 "error: [train_loop] update 22 is not finite" "$program" "${explode[@]}" --out diverged --resume --on-nonfinite stop
grep -q 'It is number 1 in a row' err || fail "did not stop at the first: $(cat err)"
expect 7 "It is number 3 in a row" "$program" "${explode[@]}" --out rewound --checkpoint-every 1 --on-nonfinite rewind --nonfinite-limit 3
[ "$(grep -c "went back to the newest checkpoint's weights" err)" -eq 2 ] || fail "did not rewind twice: $(cat err)"

[ "$before" = "$(hash_of learnt)" ] || fail "a refused command changed the run"

[ "$faults" -eq 0 ] || { echo "$faults checks failed"; exit 1; }
echo "all checks passed"
