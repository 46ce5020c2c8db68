"""Makes the LoRA adapters in this folder with PEFT, on the small models beside it.

    python -m venv venv && venv/bin/pip install torch transformers==5.24.0 peft==0.21.2
    venv/bin/python make_adapters.py [NAME ...]

Each folder is an adapter as PEFT saves it (adapter_config.json, adapter_model.safetensors), random in both factors, and
expected.safetensors: input_ids, logits of the model with the adapter beside it, and merged, one layer's weight with the
adapter merged into it (merged_name.txt says which). decoder_input_ids are T5's.
"""

import json
import pathlib
import sys

import peft
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
ADAPTERS = {
    "llama": ("families/llama_bias", transformers.AutoModelForCausalLM,
              dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"]),
              "model.layers.1.mlp.down_proj"),
    "gpt2": ("families/gpt2_inverse_layer", transformers.AutoModelForCausalLM,
             dict(r=4, lora_alpha=4, use_rslora=True, fan_in_fan_out=True, target_modules=r".*\.h\.\d+\.(attn|mlp)\.c_(attn|proj)"),
             "transformer.h.0.attn.c_attn"),
    "t5": ("encoders/t5", transformers.AutoModelForSeq2SeqLM,
           dict(r=3, lora_alpha=6, target_modules=["q", "wo"], rank_pattern={"decoder.*q": 5}),
           "decoder.block.1.layer.1.EncDecAttention.q"),
    "bert": ("encoders/bert_masked", transformers.AutoModelForMaskedLM,
             dict(r=2, lora_alpha=2, target_modules=["query", "output.dense"]), "bert.encoder.layer.0.output.dense"),
}


def make(name):
    folder, kind, options, layer = ADAPTERS[name]
    base = kind.from_pretrained(HERE.parent / folder, dtype=torch.float32).eval()
    model = peft.get_peft_model(base, peft.LoraConfig(**options)).eval()
    generator = torch.Generator().manual_seed(5)
    for each, parameter in model.named_parameters():
        if "lora_" in each:
            parameter.data.copy_((0.15 * torch.randn(parameter.shape, generator=generator)).to(torch.float16))
    with safe_open(HERE.parent / folder / "expected.safetensors", "pt") as file:
        expected = {"input_ids": file.get_tensor("input_ids")}
        if name == "t5":
            expected["decoder_input_ids"] = file.get_tensor("decoder_input_ids")
        before = file.get_tensor("logits")
        types = file.get_tensor("token_types") if name == "bert" else None
    with torch.no_grad():
        inputs = dict(expected)
        if types is not None:
            inputs["token_type_ids"] = types
        expected["logits"] = model(**inputs).logits.contiguous()
    print(name, "largest", expected["logits"].abs().max().item(), "change", (expected["logits"] - before).abs().max().item())
    model.half().save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    config = json.loads((HERE / name / "adapter_config.json").read_text())
    config.update(base_model_name_or_path=folder, auto_mapping=None)
    (HERE / name / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    merged = model.float().merge_and_unload()
    expected["merged"] = dict(merged.named_modules())[layer].weight.detach().contiguous()
    (HERE / name / "merged_name.txt").write_text(layer + "\n")
    if types is not None:
        expected["token_types"] = types
    save_file(expected, HERE / name / "expected.safetensors")


for each in sys.argv[1:] or ADAPTERS:
    make(each)
