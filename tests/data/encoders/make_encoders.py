"""Makes the tiny models with encoders in this folder: random weights, rounded to bfloat16; results by transformers in
float32.

    python -m venv venv && venv/bin/pip install torch transformers==5.24.0
    venv/bin/python make_encoders.py [NAME ...]

Each folder holds config.json, model.safetensors and expected.safetensors. Encoders: input_ids [1, 24], token_types
[1, 24], hidden [1, 24, width] and, with a head, logits [1, 24, vocabulary]. Encoder-decoders: input_ids [1, 40],
hidden [1, 40, width] of the encoder, decoder_input_ids [1, 20], logits [1, 20, vocabulary] and greedy [1, 20], which
begins with the start token.
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BERT = dict(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=40, pad_token_id=0)
T5 = dict(vocab_size=100, d_model=32, d_kv=12, num_heads=4, d_ff=48, num_layers=3, num_decoder_layers=2,
          relative_attention_num_buckets=8, relative_attention_max_distance=16, pad_token_id=0, eos_token_id=1,
          decoder_start_token_id=0)

MODELS = {
    "bert": ("BertModel", "bert", BERT),
    "bert_masked": ("BertForMaskedLM", "bert", dict(BERT, hidden_act="relu", layer_norm_eps=1e-6)),
    "roberta": ("RobertaForMaskedLM", "roberta", dict(BERT, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
                                                      eos_token_id=2)),
    "t5": ("T5ForConditionalGeneration", "t5", dict(T5, tie_word_embeddings=True)),
    "t5_gated": ("T5ForConditionalGeneration", "t5", dict(T5, feed_forward_proj="gated-gelu", num_layers=2,
                                                          tie_word_embeddings=False)),
}


def randomize(model):
    """Weights under which every part of the model acts on the results."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            values = 1 + 0.2 * noise
        elif name.endswith("bias"):
            values = 0.1 * noise
        elif "relative_attention_bias" in name:
            values = noise
        elif "embeddings" in name:
            values = 0.3 * noise
        elif parameter.shape[0] == model.config.vocab_size:
            values = (0.3 if name == "shared.weight" else 1.0) * noise
        elif name.endswith("o.weight"):
            values = 0.5 * noise
        elif name.endswith(".q.weight"):
            values = (0.06 if model.config.is_gated_act else 0.2) * noise
        else:
            values = 0.2 * noise
        parameter.data.copy_(values.to(torch.bfloat16))


def make(name):
    kind, family, options = MODELS[name]
    config = transformers.AutoConfig.for_model(family, **options)
    model = getattr(transformers, kind)(config).eval()
    separate_head = family == "t5" and options.get("tie_word_embeddings") is False
    if separate_head:  # as the files of FLAN-T5 have it
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    randomize(model)
    folder = pathlib.Path(__file__).parent / name
    generator = torch.Generator().manual_seed(11)
    expected = {}
    with torch.no_grad():
        if family == "t5":
            ids = torch.randint(3, 100, (1, 40), generator=generator)
            more = torch.randint(3, 100, (1, 20), generator=generator)
            more[0, 0] = 0
            result = model(input_ids=ids, decoder_input_ids=more)
            expected = {"decoder_input_ids": more, "logits": result.logits, "hidden": result.encoder_last_hidden_state}
            expected["greedy"] = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, min_length=0,
                                                max_new_tokens=19, eos_token_id=None)
        else:
            ids = torch.randint(3, 100, (1, 24), generator=generator)
            types = torch.zeros_like(ids)
            if config.type_vocab_size > 1:
                types[0, 9:] = 1
            result = model(input_ids=ids, token_type_ids=types, output_hidden_states=True)
            expected = {"token_types": types, "hidden": result.hidden_states[-1]}
            if "MaskedLM" in kind:
                expected["logits"] = result.logits
    expected["input_ids"] = ids
    logits = expected.get("logits", expected["hidden"])
    spread = torch.topk(logits[0], 2).values
    print(f"{name}: largest {logits.abs().max():.3f}, closest two {(spread[:, 0] - spread[:, 1]).min():.5f}",
          expected.get("greedy"))
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")


for each in sys.argv[1:] or MODELS:
    make(each)
