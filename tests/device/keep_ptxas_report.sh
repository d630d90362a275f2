#!/usr/bin/env bash
# A compiler launcher for nvcc -Xptxas=-v: keeps what ptxas says of registers and spills beside the object, as <object>.ptxas, and
# passes everything else on.
set -uo pipefail
object=
arguments=("$@")
for ((i = 0; i < $#; ++i)); do
  if [ "${arguments[i]}" = -o ]; then object=${arguments[i + 1]}; fi
done
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT
"$@" 2>"$messages"
status=$?
report='^ptxas info|bytes stack frame|^ *$'
if [[ $object == *.o ]]; then grep -E "$report" "$messages" >"$object.ptxas"; fi
grep -vE "$report" "$messages" >&2
exit $status
