"""Makes the tiny quantized models of this folder: random weights, quantized and saved by compressed-tensors itself
(rounded to nearest, scales of the largest weights); logits by transformers in float32 on the weights that
compressed-tensors gives back.

    python -m venv venv && venv/bin/pip install torch transformers==5.24.0 compressed-tensors==0.20.0
    venv/bin/python make_compressed_tensors.py [NAME ...]

Each folder holds config.json, model.safetensors and expected.safetensors: input_ids [1, 16], logits [1, 16, 64], greedy
[1, 24] (the first 8 ids of input_ids and 16 more) and dequantized:NAME, the weights of one layer in float32.
deepseek_fp8 is fp8_block under the names of DeepSeek's checkpoints.
"""

import copy
import json
import pathlib
import sys

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
LLAMA = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
WIDE = dict(LLAMA, hidden_size=160, intermediate_size=192)
DYNAMIC = dict(num_bits=8, symmetric=True, strategy="token", dynamic=True)


def group(weights, inputs=None):
    return dict(targets=["Linear"], weights=weights, input_activations=inputs)


INT = dict(type="int", symmetric=True)
FLOAT = dict(type="float", num_bits=8, symmetric=True)
MODELS = {
    "w4_g32": (LLAMA, torch.float16, "pack-quantized", group(dict(INT, num_bits=4, strategy="group", group_size=32))),
    "w4_g32_asym": (LLAMA, torch.bfloat16, "pack-quantized",
                    group(dict(INT, num_bits=4, strategy="group", group_size=32, symmetric=False))),
    "w4_channel": (LLAMA, torch.float16, "pack-quantized", group(dict(INT, num_bits=4, strategy="channel"))),
    "w8_channel_packed": (LLAMA, torch.float16, "pack-quantized", group(dict(INT, num_bits=8, strategy="channel"))),
    "w8a8": (LLAMA, torch.bfloat16, "int-quantized",
             group(dict(INT, num_bits=8, strategy="channel"), dict(DYNAMIC, type="int"))),
    "w8a8_tensor": (LLAMA, torch.bfloat16, "int-quantized",
                    group(dict(INT, num_bits=8, strategy="tensor"), dict(DYNAMIC, type="int"))),
    "w8a8_asym": (LLAMA, torch.bfloat16, "int-quantized",
                  group(dict(INT, num_bits=8, strategy="channel", symmetric=False), dict(DYNAMIC, type="int"))),
    "fp8_channel": (LLAMA, torch.bfloat16, "float-quantized",
                    group(dict(FLOAT, strategy="channel"), dict(DYNAMIC, type="float"))),
    "fp8_tensor": (LLAMA, torch.float16, "float-quantized",
                   group(dict(FLOAT, strategy="tensor"), dict(DYNAMIC, type="float"))),
    "mxfp4": (LLAMA, torch.bfloat16, "mxfp4-pack-quantized",
              group(dict(type="float", num_bits=4, symmetric=True, strategy="group", group_size=32,
                         scale_dtype=torch.uint8, zp_dtype=torch.uint8))),
    "fp8_block": (WIDE, torch.bfloat16, "float-quantized",
                  group(dict(FLOAT, strategy="block", block_structure=[128, 128]), dict(DYNAMIC, type="float"))),
}


def extremes(weight, args):
    """Least and largest weight of what shares a scale, in the shape of the scales."""
    if args.strategy == "tensor":
        return weight.min().reshape(1), weight.max().reshape(1)
    if args.strategy == "block":
        rows, cols = args.block_structure
        blocks = [[weight[r:r + rows, c:c + cols] for c in range(0, weight.shape[1], cols)]
                  for r in range(0, weight.shape[0], rows)]
        return (torch.stack([torch.stack([b.min() for b in row]) for row in blocks]),
                torch.stack([torch.stack([b.max() for b in row]) for row in blocks]))
    size = args.group_size if args.strategy == "group" else weight.shape[1]
    parts = weight.unflatten(1, (-1, size))
    return parts.amin(-1), parts.amax(-1)


def expect(folder, config, weights, names):
    """Logits and ids of a float32 model with these weights."""
    model = LlamaForCausalLM(LlamaConfig(**config)).float().eval()
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    torch.manual_seed(2)
    ids = torch.randint(3, config["vocab_size"], (1, 16))
    with torch.no_grad():
        logits = model(ids).logits
        greedy = ids[:, :8]
        for _ in range(16):
            greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], 1)
    tensors = {"input_ids": ids, "logits": logits, "greedy": greedy.contiguous()}
    for name in names:
        tensors["dequantized:" + name] = weights[name + ".weight"].float().clone()
    save_file(tensors, folder / "expected.safetensors")


def make(name):
    config, dtype, form, scheme = MODELS[name]
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**config, dtype=dtype)).to(dtype).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() == 2:
            parameter.mul_(4)  # so that logits tell one weight from another
    quantization = QuantizationConfig(config_groups={"group_0": copy.deepcopy(scheme)}, ignore=["lm_head"], format=form)
    apply_quantization_config(model, quantization)
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is None or not hasattr(module, "weight_scale"):
            continue
        args = module.quantization_scheme.weights
        scale, zero = calculate_qparams(*extremes(module.weight, args), args)
        module.weight_scale.copy_(scale.reshape(module.weight_scale.shape))
        if hasattr(module, "weight_zero_point"):
            module.weight_zero_point.copy_(zero.reshape(module.weight_zero_point.shape))
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=form)
    compressor.compress_model(model)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    tensors = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
    compressor.update_config(folder)
    for module in model.modules():  # weights come back in the type of the scales; no bit is to be lost
        if hasattr(module, "weight_scale"):
            module.weight_scale = torch.nn.Parameter(module.weight_scale.float(), requires_grad=False)
    compressor.decompress_model(model)
    kept = set(LlamaForCausalLM(LlamaConfig(**config)).state_dict())
    weights = {key: value for key, value in model.state_dict().items() if key in kept}
    expect(folder, config, weights, ["model.layers.0.mlp.down_proj"])


def make_deepseek():
    source = load_file(HERE / "fp8_block" / "model.safetensors")
    expected = load_file(HERE / "fp8_block" / "expected.safetensors")
    folder = HERE / "deepseek_fp8"
    folder.mkdir(exist_ok=True)
    save_file({name.replace("weight_scale", "weight_scale_inv"): value.float() if "weight_scale" in name else value
               for name, value in source.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((HERE / "fp8_block" / "config.json").read_text())
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                     "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
    make_deepseek()
