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

# Statistics, and codes that are chosen by them.
model=$source/examples/models/tiny-code-model/model
text=$source/examples/models/tiny-code-model/note.txt
seen=(--windows 5 --window 24 --quiet)
rm -f one.safetensors many.safetensors
"$kvant" calibrate "$model" "$text" --out one.safetensors "${seen[@]}"
"${mpirun[@]}" -np 3 "$kvant" calibrate "$model" "$text" --out many.safetensors "${seen[@]}"
cmp one.safetensors many.safetensors || die "calibrate by 3 ranks: other bytes"
[ -z "$(ls -d many.safetensors.* 2>/dev/null)" ] || die "calibrate by 3 ranks leaves files behind"
compare 2 --scheme gptq --calibrate one.safetensors
compare 3 --scheme awq --calibrate "$text" "${seen[@]:0:4}"
