"""Makes formats.safetensors: weights, and what other libraries make of them in formats that kvant packs.

    python -m venv venv && venv/bin/pip install torch gguf==0.19.0 safetensors
    venv/bin/python make_weight_formats.py

w [40, 192] and square_w [140, 150] F32. fp8.NAME.codes (U8, the bits) and .values F32 by torch's cast to float8_e4m3fn,
with one scale for each output (row) or for the whole of w (tensor), and for each square of 128 x 128 of square_w
(block). mxfp4.values F32 and mxfp4.exponents U8 by gguf. int2, int3: codes, zero points and fp16 scales by the formulas
of AutoGPTQ's Quantizer, groups of 64, affine and symmetric.
"""

import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

torch.manual_seed(3)
w = torch.randn(40, 192) * torch.logspace(-3, 2, 40)[:, None]
w[1] = 0
w[2, 5] = -500
square_w = torch.randn(140, 150) * torch.logspace(-2, 1, 150)[None]
tensors = {"w": w, "square_w": square_w}


def fp8(name, weight, scale):
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (weight / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    tensors[f"fp8.{name}.codes"] = codes.view(torch.uint8).contiguous()
    tensors[f"fp8.{name}.values"] = codes.float() * scale


fp8("row", w, w.abs().amax(1, keepdim=True) / 448)
fp8("tensor", w, w.abs().max().reshape(1, 1) / 448)
scales = torch.zeros(140, 150)
for r in range(0, 140, 128):
    for c in range(0, 150, 128):
        scales[r:r + 128, c:c + 128] = square_w[r:r + 128, c:c + 128].abs().max() / 448
fp8("block", square_w, scales)

packed = gguf.quants.quantize(w.numpy(), gguf.GGMLQuantizationType.MXFP4)
tensors["mxfp4.values"] = torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.MXFP4).copy())
tensors["mxfp4.exponents"] = torch.from_numpy(packed.reshape(40, 6, 17)[:, :, 0].copy())

for bits in (2, 3):
    highest = 2 ** bits - 1
    groups = w.double().reshape(40, 3, 64)
    for affine in (True, False):
        least, most = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        width = most - least if affine else 2 * torch.maximum(-least, most)
        scale = (width / highest).float().half()
        scale = torch.where(width > 0, scale.clamp(min=2.0 ** -24), torch.ones_like(scale))
        middle = torch.full_like(width, (highest + 1) // 2)
        # Divisions in float32, as numbers of the library's own.
        zero = torch.round(-least.float() / scale.float()).clamp(0, highest).double() if affine else middle
        zero = torch.where(width > 0, zero, middle)
        codes = (torch.round(groups.float() / scale.float()[:, :, None]).double() + zero[:, :, None]).clamp(0, highest)
        name = f"int{bits}.{'affine' if affine else 'symmetric'}"
        tensors[name + ".codes"] = codes.reshape(40, 192).to(torch.uint8)
        tensors[name + ".zeros"] = zero.to(torch.uint8)
        tensors[name + ".scales"] = scale
save_file({key: value.contiguous() for key, value in tensors.items()},
          pathlib.Path(__file__).parent / "formats.safetensors")
