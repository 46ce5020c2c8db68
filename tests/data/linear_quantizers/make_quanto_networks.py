"""quanto_networks.json and .safetensors: optimum-quanto's network of quanto.json with other codes.

    python3 make_quanto_networks.py    (needs torch, safetensors, optimum-quanto 0.2.7)
"""
import json
from pathlib import Path

import optimum.quanto as quanto
import torch
from safetensors.torch import load_file, save_file

here = Path(__file__).parent
tensors = load_file(here / "quanto.safetensors")
torch.set_num_threads(1)


def network():
    model = torch.nn.Sequential(
        torch.nn.Linear(32, 48), torch.nn.ReLU(), torch.nn.Linear(48, 24), torch.nn.ReLU(),
        torch.nn.Linear(24, 10, bias=False))
    model.load_state_dict({name: tensors["net." + name] for name in model.state_dict()})
    return model


codes = {"none": None, "int2": quanto.qint2, "int4": quanto.qint4, "int8": quanto.qint8,
         "fp8": quanto.qfloat8}
exact = tensors["net.float_out"].double()
outputs, cases = {}, []
for weights in ("int2", "int4", "fp8", "int8"):
    for activations in ("none", "int8", "fp8"):
        if (weights, activations) == ("int8", "int8"):
            continue  # in quanto.json
        model = network()
        quanto.quantize(model, weights=codes[weights], activations=codes[activations])
        scales = []
        if codes[activations]:
            with quanto.Calibration():
                for batch in range(4):
                    model(tensors[f"net.calib{batch}"])
                    scales.append([model[i].input_scale.item() for i in (0, 2, 4)])
        quanto.freeze(model)
        y = model(tensors["net.test"])
        y = y.dequantize() if hasattr(y, "dequantize") else y
        name = f"net.{weights}.{activations}"
        outputs[name + ".out"] = y.contiguous().clone()
        cases.append({"name": name, "weights": weights, "activations": activations,
                      "input_scales_after_each_batch": scales,
                      "relative_error": float((y - exact).norm() / exact.norm())})
save_file(outputs, here / "quanto_networks.safetensors")
lines = ",\n".join("  " + json.dumps(case) for case in cases)
(here / "quanto_networks.json").write_text(
    '{"reference": "optimum-quanto 0.2.7, one thread", "names": "name + .out: of the frozen network '
    'for net.test; relative_error: its distance from net.float_out", "cases": [\n' + lines + "\n]}\n")
