#!/usr/bin/env bash
# gguf_peers.sh KVANT DATA OUT: what kvant convert writes is read by gguf-py, and by transformers where
# KVANT_PYTHON names a Python that has it. Without KVANT_PYTHON a virtual environment with gguf-py is
# made in OUT. Exit status 77: it cannot be made here, and nothing was compared.
set -euo pipefail
kvant=$1
data=$2
out=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
python=${KVANT_PYTHON:-$out/venv/bin/python}
if [ ! -x "$python" ]; then
  if ! { python3 -m venv "$out/venv" && timeout 60 "$out/venv/bin/pip" install -q gguf==0.19.0; } >"$out/log" 2>&1; then
    echo "skipped: no virtual environment with gguf-py can be made here ($out/log says why)"
    rm -rf "$out/venv"
    exit 77
  fi
fi
# q and k in transformers' order, and in llama.cpp's; an encoder and a decoder; an encoder.
for family in families/qwen2_window families/llama_dynamic encoders/t5 encoders/t5_gated encoders/bert; do
  rm -rf "$out/model"
  cp -r "$data/$family" "$out/model"
  # What GGUF cannot say.
  sed -i 's/"use_sliding_window": true/"use_sliding_window": false/; s/"sliding_attention"/"full_attention"/
          s/"rope_type": "dynamic"/"rope_type": "default"/; /"factor"/d
          s/"relative_attention_max_distance": 16/"relative_attention_max_distance": 128/' "$out/model/config.json"
  "$python" "$here/gguf_peers.py" "$kvant" "$out/model" "$out"
done
