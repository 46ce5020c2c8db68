"""Reads GGUF files that kvant wrote with gguf-py and, where it is installed, transformers.

    gguf_peers.py KVANT FOLDER OUT

Converts the model FOLDER into every type that gguf-py can quantize too and compares: keys, names, shapes, and every
byte of the tensors with gguf.quants.quantize of the folder's values. With transformers (and torch): logits (BERT's
hidden states) of the F32 file and of the folder made of it against those of the folder itself.
"""

import json
import pathlib
import re
import subprocess
import sys

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

KVANT, FOLDER, OUT = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
QUANTIZED_BY_PEER = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
config = json.loads((FOLDER / "config.json").read_text())


def convert(kind):
    path = OUT / f"{kind}.gguf"
    subprocess.run([KVANT, "convert", FOLDER, path, "--type", kind, "--force", "--quiet"], check=True,
                   stderr=subprocess.DEVNULL)
    return path


floats = {t.name: dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(convert("f32")).tensors}
assert floats, "no tensors"
compared = 0
for kind in QUANTIZED_BY_PEER + ["q4_k", "q5_k", "q6_k"]:
    reader = gguf.GGUFReader(convert(kind))
    architecture = reader.get_field("general.architecture").contents()
    blocks = config.get("num_hidden_layers", config.get("num_layers"))  # T5's are the encoder's
    assert reader.get_field(f"{architecture}.block_count").contents() == blocks
    known = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    patterns = [gguf.TENSOR_NAMES[each] for each in gguf.MODEL_TENSORS[known]]
    for name in floats:
        block = re.search(r"\bblk\.(\d+)\.", name)
        names = {pattern.format(bid=block and block[1]) for pattern in patterns}
        assert name.rsplit(".", 1)[0] in names, f"{architecture} has no tensor {name}"
    assert {t.name for t in reader.tensors} == set(floats)
    for tensor in reader.tensors:
        values = floats[tensor.name]
        back = dequantize(tensor.data, tensor.tensor_type)
        assert back.shape == values.shape, tensor.name
        error = np.sqrt(((back - values) ** 2).mean() / max((values**2).mean(), 1e-30))
        assert error < 0.15, (kind, tensor.name, error)
        if tensor.tensor_type.name.lower() in QUANTIZED_BY_PEER:
            wanted = quantize(values, tensor.tensor_type)
            assert wanted.tobytes() == tensor.data.tobytes(), (kind, tensor.name)
            compared += 1
print(f"gguf-py {len(floats)} tensors: reads every type, and {compared} tensors are its own bytes")

try:
    import torch
    import transformers
except ImportError:
    print("transformers is not installed: its GGUF loader is not tried")
    sys.exit(0)
transformers.logging.set_verbosity_error()
ids = torch.tensor([[3, 4, 5, 6, 7, 8, 9, 10]])
T5, BERT = config["model_type"] == "t5", config["model_type"] == "bert"
kind = transformers.AutoModelForSeq2SeqLM if T5 else transformers.AutoModel if BERT else transformers.AutoModelForCausalLM


def results(path, **options):
    model = kind.from_pretrained(path, dtype=torch.float32, **options).eval()
    with torch.no_grad():
        if BERT:
            return model(ids).last_hidden_state
        return model(ids, decoder_input_ids=torch.tensor([[0, 9, 8]])).logits if T5 else model(ids).logits


theirs = results(FOLDER)
if not BERT:  # which its GGUF loader does not know
    # Of T5 the loader takes every model for FLAN-T5, and its activation for relu: the description is the folder's.
    told = {"config": transformers.AutoConfig.from_pretrained(FOLDER)} if T5 else {}
    ours = results(OUT, gguf_file="f32.gguf", **told)
    assert (ours - theirs).abs().max() <= 1e-5, "logits differ"
subprocess.run([KVANT, "convert", OUT / "f32.gguf", OUT / "back", "--force", "--quiet"], check=True,
               stderr=subprocess.DEVNULL)
assert (results(OUT / "back") - theirs).abs().max() <= 1e-5, "logits of the folder made of the GGUF file differ"
print("transformers loads the GGUF file and the folder made of it: the results are the model's" if not BERT else
      "transformers loads the folder made of the GGUF file: the results are the model's")
