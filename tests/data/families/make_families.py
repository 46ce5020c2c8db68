"""Makes the tiny models in this folder: random weights, rounded to bfloat16; logits by transformers in float32.

    python -m venv venv && venv/bin/pip install torch transformers==5.24.0
    venv/bin/python make_families.py [NAME ...]

Each folder holds config.json, model.safetensors and expected.safetensors: input_ids [1, 24], logits [1, 24, vocabulary]
and greedy [1, 24], the first 8 ids of input_ids and 16 more, each the one with the largest logit (with a key-value
cache, which matters to dynamic rotary scaling).
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BASE = dict(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA = dict(BASE, num_key_value_heads=2, intermediate_size=40)
GPT2 = dict(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48, bos_token_id=1, eos_token_id=2)
BLOOM = dict(vocab_size=100, hidden_size=24, n_layer=2, n_head=6, bos_token_id=1, eos_token_id=2)
FALCON = dict(BASE, ffn_hidden_size=48)


def rope(**values):
    return dict(rope_theta=10000.0, **values)


MODELS = {
    "gpt2_inverse_layer": ("gpt2", dict(GPT2, scale_attn_by_inverse_layer_idx=True)),
    "llama_bias": ("llama", dict(LLAMA, attention_bias=True, mlp_bias=True, head_dim=12)),
    "llama_linear": ("llama", dict(LLAMA, rope_parameters=rope(rope_type="linear", factor=4.0))),
    "llama_dynamic": ("llama", dict(LLAMA, max_position_embeddings=12,
                                    rope_parameters=rope(rope_type="dynamic", factor=2.0))),
    "llama_rope3": ("llama", dict(LLAMA, rope_parameters=rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16))),
    "mistral_window": ("mistral", dict(LLAMA, sliding_window=6)),
    "mixtral": ("mixtral", dict(LLAMA, num_local_experts=4, num_experts_per_tok=2)),
    "qwen2_window": ("qwen2", dict(LLAMA, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "qwen2_yarn": ("qwen2", dict(LLAMA, tie_word_embeddings=True, rope_parameters=rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16))),
    "phi3_partial": ("phi3", dict(LLAMA, sliding_window=6, rope_parameters=rope(
        rope_type="default", partial_rotary_factor=0.5))),
    "qwen3": ("qwen3", dict(LLAMA, head_dim=16, attention_bias=True)),
    "starcoder2_window": ("starcoder2", dict(LLAMA, sliding_window=6)),
    "gpt_neox": ("gpt_neox", dict(BASE, intermediate_size=48, rope_parameters=rope(
        rope_type="default", partial_rotary_factor=0.5))),
    "gpt_neox_serial": ("gpt_neox", dict(BASE, intermediate_size=48, use_parallel_residual=False,
                                         rope_parameters=rope(rope_type="default", partial_rotary_factor=0.25))),
    "opt": ("opt", dict(BASE, ffn_dim=48)),
    "opt_post_norm": ("opt", dict(BASE, ffn_dim=48, do_layer_norm_before=False, word_embed_proj_dim=24)),
    "bloom": ("bloom", BLOOM),
    "falcon_7b": ("falcon", dict(FALCON)),
    "falcon_40b": ("falcon", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2)),
    "falcon_11b": ("falcon", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1)),
    "falcon_rw": ("falcon", dict(FALCON, alibi=True, multi_query=False, parallel_attn=False, bias=True)),
    "gemma2": ("gemma2", dict(LLAMA, head_dim=12, query_pre_attn_scalar=20, sliding_window=6,
                              attn_logit_softcapping=2.0, final_logit_softcapping=6.0)),
    "olmo2": ("olmo2", dict(LLAMA)),
    "granite": ("granite", dict(LLAMA, embedding_multiplier=6.0, residual_multiplier=0.5, attention_multiplier=0.2,
                                logits_scaling=3.0)),
}


def randomize(model):
    """Weights under which every part of the model acts on the logits."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or ".ln_" in name:
            offset = 1 if name.endswith("weight") and model.config.model_type != "gemma2" else 0
            values = offset + 0.2 * noise
        elif name.endswith("bias"):
            values = 0.1 * noise
        elif parameter.shape[0] == model.config.vocab_size:
            values = 0.1 * noise
        else:
            values = noise * (0.3 if parameter.dim() > 1 and parameter.shape[-1] == model.config.hidden_size else 0.25)
        parameter.data.copy_(values.to(torch.bfloat16))


def make(name):
    kind, options = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **options)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model)
    folder = pathlib.Path(__file__).parent / name
    ids = torch.randint(3, 100, (1, 24), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
        greedy = model.generate(ids[:, :8], attention_mask=torch.ones(1, 8), do_sample=False, max_new_tokens=16,
                                eos_token_id=None)
    spread = torch.topk(logits[0], 2).values
    print(f"{name}: largest logit {logits.abs().max():.3f}, closest two {(spread[:, 0] - spread[:, 1]).min():.5f}")
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({"input_ids": ids, "logits": logits.contiguous(), "greedy": greedy}, folder / "expected.safetensors")


for each in sys.argv[1:] or MODELS:
    make(each)
