"""Makes the GGUF files of this folder that gguf-py can write from models and tokenizers of tests/data.

    python -m venv venv && venv/bin/pip install gguf==0.19.0 safetensors torch
    venv/bin/python make_models.py

qwen3_Q8_0.gguf: ../../families/qwen3 with its linear layers in Q8_0 where rows are multiples of 32, else F16, and the
tokenizer ../../tokenizers/qwen2.json cut to its vocabulary; its logits are compared with the folder's.
llama_rope3_F32.gguf: ../../families/llama_rope3, q and k as llama.cpp orders them, its rope scaling as rope_freqs, and
the tokenizer ../../tokenizers/llama2.json with scores in place of merges.
(llama_Q4_0 and llama_F16 were made with transformers' logits on the dequantized weights.)
"""

import json
import math
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent.parent
NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.embed_tokens": "token_embd",
         "model.norm": "output_norm", "lm_head": "output"}


def name_of(name):
    base, part = name.rsplit(".", 1)
    if base.startswith("model.layers."):
        number, rest = base[len("model.layers."):].split(".", 1)
        return f"blk.{number}.{NAMES[rest]}.{part}"
    return f"{NAMES[base]}.{part}"


def begin(folder, file, architecture):
    config = json.loads((DATA / "families" / folder / "config.json").read_text())
    writer = gguf.GGUFWriter(HERE / file, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    return writer, config, load_file(DATA / "families" / folder / "model.safetensors")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary(writer, name, model):
    tokenizer = json.loads((DATA / "tokenizers" / f"{name}.json").read_text())
    vocab = dict(tokenizer["model"]["vocab"])
    special = {each["content"]: each["id"] for each in tokenizer["added_tokens"]}
    vocab.update(special)
    tokens = sorted(vocab, key=vocab.get)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if each in special else 6 if each.startswith("<0x") else 1 for each in tokens])
    return tokenizer["model"]["merges"], tokens


writer, config, tensors = begin("qwen3", "qwen3_Q8_0.gguf", "qwen3")
merges, _ = vocabulary(writer, "qwen2", "gpt2")
writer.add_tokenizer_pre("qwen2")
writer.add_token_merges([" ".join(each) for each in merges])
writer.add_chat_template("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}{% endfor %}")
for name, tensor in tensors.items():
    array = tensor.float().numpy()
    if array.ndim == 2 and array.shape[1] % 32 == 0:
        raw = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name_of(name), raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name_of(name), array.astype(np.float16 if array.ndim == 2 else np.float32))
finish(writer)

writer, config, tensors = begin("llama_rope3", "llama_rope3_F32.gguf", "llama")
merges, tokens = vocabulary(writer, "llama2", "llama")
rank = {"".join(each): i for i, each in reversed(list(enumerate(merges)))}
writer.add_token_scores([-float(rank.get(each, 10000)) for each in tokens])
writer.add_unk_token_id(0)
writer.add_bos_token_id(1)
rope = config["rope_parameters"]
half = config["head_dim"] // 2
factors = []
for i in range(half):
    wave = 2 * math.pi * rope["rope_theta"] ** (i / half)
    length = rope["original_max_position_embeddings"]
    if wave < length / rope["high_freq_factor"]:
        factors.append(1.0)
    elif wave > length / rope["low_freq_factor"]:
        factors.append(rope["factor"])
    else:
        smooth = (length / wave - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
for name, tensor in tensors.items():
    for part, heads in (("q_proj", config["num_attention_heads"]), ("k_proj", config["num_key_value_heads"])):
        if part in name:
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
    writer.add_tensor(name_of(name), tensor.float().contiguous().numpy())
finish(writer)
