#!/usr/bin/env bash
# quantize.sh KVANT SOURCE_DIR MPIRUN...: folders quantized by ranks are byte for byte those of one process.
. "$(dirname "$0")/support.sh"

compare() {  # ranks, words of kvant quantize
  local ranks=$1
  shift
  rm -rf one many
  "$kvant" quantize "$model" one "$@" --quiet
  "${mpirun[@]}" -np "$ranks" "$kvant" quantize "$model" many "$@" --quiet
  diff -r one many || die "$* by $ranks ranks: other bytes"
}
compare 3 --scheme nf4
compare 4 --scheme int4 --as awq --max-shard-size 1MB
compare 2 --scheme fp16
compare 4 --calibrate "$source/examples/models/tiny-code-model/note.txt" --threshold 3

# GPT-2's weights are transposed: a tensor is in memory at once.
model=$source/tests/data/families/gpt2_inverse_layer
compare 3 --scheme int8
