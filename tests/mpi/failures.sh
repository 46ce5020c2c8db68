#!/usr/bin/env bash
# failures.sh KVANT SOURCE_DIR MPIRUN...: what goes wrong on one rank, or between them, ends all with one
# message, and nothing hangs.
. "$(dirname "$0")/support.sh"

words=("$kvant" run "$model" --scheme llm-int8 --threads 1 --ids 1,2,3 --tokens 4 --quiet)
# refused STATUS PATTERN COMMAND...: exactly one line of kvant's, and this exit status.
refused() {
  local status=$1 pattern=$2 code=0
  shift 2
  timeout 60 "$@" >out.txt 2>err.txt || code=$?
  [ $code -eq "$status" ] || { cat err.txt; die "exit status $code, not $status: $*"; }
  grep -q "^kvant: .*$pattern" err.txt || { cat err.txt; die "not said: $pattern"; }
  [ "$(grep -c '^kvant: ' err.txt)" -eq 1 ] || { cat err.txt; die "said more than once: $pattern"; }
}

refused 1 '3 ranks cannot share this gpt_bigcode: it has 4 heads' "${mpirun[@]}" -np 3 "${words[@]}"
refused 1 'no/such/model' "${mpirun[@]}" -np 2 "$kvant" run no/such/model --ids 1
refused 2 'not expected' "${mpirun[@]}" -np 2 "$kvant" run "$model" --ids 1 --no-such-option
refused 1 'a job for one process' "${mpirun[@]}" -np 2 "$kvant" inspect "$model"

# Other words, other files, on one rank.
refused 1 'command lines differ between ranks: rank 0 has run' \
  "${mpirun[@]}" -np 1 "${words[@]}" : -np 1 "${words[@]}" --kv int8
mkdir a b
cp -r "$model" a/model
cp -r "$model" b/model
printf x | dd of=b/model/model.safetensors bs=1 seek=5000 conv=notrunc 2>/dev/null
there=("$kvant" run model --scheme llm-int8 --threads 1 --ids 1,2,3 --tokens 4 --quiet)
refused 1 'contents of model.safetensors differ between ranks' \
  "${mpirun[@]}" -np 1 -wdir "$work/a" "${there[@]}" : -np 1 -wdir "$work/b" "${there[@]}"
rm b/model/tokenizer.json
refused 1 'files of model differ between ranks' \
  "${mpirun[@]}" -np 1 -wdir "$work/a" "${there[@]}" : -np 1 -wdir "$work/b" "${there[@]}"
rm -r b/model
refused 1 'rank 1: .*config.json' \
  "${mpirun[@]}" -np 1 -wdir "$work/a" "${there[@]}" : -np 1 -wdir "$work/b" "${there[@]}"

# A rank that is killed, and a job that is ended from outside, while they work for a long time.
for _ in $(seq 200); do cat "$source/examples/models/tiny-code-model/eval.txt"; done >long.txt
ended() {  # signal, whom: "rank" or "job"
  local code=0 job rank=
  timeout 60 "${mpirun[@]}" -np 2 "$kvant" run "$model" --threads 1 --perplexity long.txt >out.txt 2>err.txt &
  job=$!
  for _ in $(seq 100); do
    # The last of the processes that run in this folder.
    rank=$(for each in /proc/[0-9]*; do
      [ "$(readlink "$each/cwd" 2>/dev/null)" = "$work" ] && [ "$(readlink "$each/exe" 2>/dev/null)" = "$kvant" ] &&
        echo "${each#/proc/}"
    done | sort -n | tail -1) || true
    # It is at work when SIGTERM (bit 14) no longer ends it at once.
    [ -n "$rank" ] && [ $((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$rank/status" || echo 0) & 0x4000)) -ne 0 ] && break
    sleep 0.1
  done
  sleep "$(awk "BEGIN { print 0.5 + $RANDOM / 32768 }")"  # in the midst of a window, or between two
  if [ "$2" = rank ]; then kill -"$1" "$rank"; else kill -"$1" "$job"; fi
  wait $job || code=$?
  [ $code -ne 0 ] || die "SIG$1 to the $2: exit status 0"
  [ $code -ne 124 ] || die "SIG$1 to the $2: it hangs"
  [ "$(grep -c '^kvant: ' err.txt)" -le 1 ] || { cat err.txt; die "SIG$1 to the $2: said more than once"; }
}
ended KILL rank
ended TERM rank
grep -q '^kvant: .*interrupted, or another rank was ended' err.txt || { cat err.txt; die "TERM: not said"; }
