#!/usr/bin/env bash
# run.sh KVANT SOURCE_DIR MPIRUN...: the same text and logits by ranks as by one process, each of which
# reads its share of the file.
. "$(dirname "$0")/support.sh"

for scheme in llm-int8 int4; do
  words=("$model" --scheme $scheme --threads 1 --quiet)
  "$kvant" run "${words[@]}" --ids 1,2,3,4,5 --tokens 12 --logits one.safetensors --json one.json >one.txt
  for ranks in 2 4; do
    "${mpirun[@]}" -np $ranks "$kvant" run "${words[@]}" --ids 1,2,3,4,5 --tokens 12 \
      --logits many.safetensors --json many.json >many.txt
    cmp one.txt many.txt || die "$scheme on $ranks ranks: another text"
    cmp one.safetensors many.safetensors || die "$scheme on $ranks ranks: other logits"
    whole=$(figures one.json bytes_read)
    # The first figure is rank 0's own, then those of all ranks.
    for bytes in $(figures many.json bytes_read); do
      [ $((bytes * ranks * 10)) -lt $((whole * 13)) ] ||
        die "$scheme on $ranks ranks: $bytes of $whole bytes were read"
    done
    [ "$(figures many.json rank | wc -l)" -eq $ranks ] || die "not every rank is reported"
    for peak in $(figures many.json peak_bytes); do
      held=$(figures many.json weight_bytes | head -1)
      [ "$peak" -lt $((held + (64 << 20))) ] || die "$scheme on $ranks ranks: a peak of $peak bytes"
    done
  done
done
"$kvant" run "$model" --scheme llm-int8 --threads 1 --prompt 'int main' --tokens 12 --quiet >one.txt
"${mpirun[@]}" -np 2 "$kvant" run "$model" --scheme llm-int8 --threads 1 --prompt 'int main' --tokens 12 \
  --quiet >many.txt
cmp one.txt many.txt || die "a prompt: another text"
"$kvant" run "$model" --scheme llm-int8 --threads 1 --perplexity "$source/examples/models/tiny-code-model/note.txt" >one.txt
"${mpirun[@]}" -np 2 "$kvant" run "$model" --scheme llm-int8 --threads 1 \
  --perplexity "$source/examples/models/tiny-code-model/note.txt" >many.txt
cmp one.txt many.txt || die "another perplexity"

# A real chat model, where examples/run.sh --real has put it: 9 heads of queries, 3 of keys.
real=$source/build/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -f "$real" ]; then
  "$kvant" run "$real" --scheme int8 --ids 1,2,3,4 --logits one.safetensors --quiet
  for ranks in 1 3; do
    "${mpirun[@]}" -np $ranks "$kvant" run "$real" --scheme int8 --ids 1,2,3,4 --threads 1 \
      --logits many.safetensors --quiet
    cmp one.safetensors many.safetensors || die "SmolLM2 on $ranks ranks: other logits"
  done
else
  echo "SmolLM2 is not here: left out"
fi
