#!/usr/bin/env bash
# devices.sh KVANT_ON_EMULATED_DEVICE SOURCE_DIR NCCL_STAND_IN MPIRUN...: ranks whose layers are on devices
# write one process's text, whatever way what they hold takes.
nccl=$3
set -- "$1" "$2" "${@:4}"
. "$(dirname "$0")/support.sh"

for scheme in llm-int8 int4; do
  words=(run "$model" --scheme $scheme --threads 1 --ids 1,2,3,4,5 --tokens 8)
  "$kvant" "${words[@]}" --logits one.safetensors --quiet >one.txt
  for way in hosts off shared refused nccl some; do
    more=(--device cuda)
    export KVANT_NCCL=$nccl
    unset NCCL_STAND_IN_REFUSES KVANT_EMULATED_DEVICES
    [ $way != hosts ] || export KVANT_NCCL=/no/such/libnccl.so
    [ $way != off ] || export KVANT_NCCL=
    [ $way != shared ] || export KVANT_EMULATED_DEVICES=1
    [ $way != refused ] || export NCCL_STAND_IN_REFUSES=1
    # Layers of some kinds on the device alone.
    [ $way != some ] || more+=(--cpu '*.c_proj')
    "${mpirun[@]}" -np 2 "$kvant" "${words[@]}" "${more[@]}" --logits many.safetensors \
      --json many.json >many.txt 2>said.txt
    cmp one.txt many.txt || die "$scheme by $way: another text"
    cmp one.safetensors many.safetensors || die "$scheme by $way: other logits"
    for bytes in $(figures many.json device_bytes); do
      [ "$bytes" -gt 0 ] || die "$scheme by $way: a rank has nothing on its device"
    done
    case $way in
      hosts) wanted='by way of the hosts (NCCL: /no/such/libnccl.so' ;;
      off) wanted='by way of the hosts (KVANT_NCCL is empty)' ;;
      shared) wanted='by way of the hosts (ranks share a device)' ;;
      refused) wanted='by way of the hosts (NCCL: ncclCommInitRank: invalid usage' ;;
      *) wanted='NCCL 2.29.3' ;;
    esac
    grep -qF "[between the ranks' devices: $wanted" said.txt || { cat said.txt; die "not said: $wanted"; }
    grep -qF "\"between_devices\": \"$wanted" many.json || die "not in the report: $wanted"
  done
done
