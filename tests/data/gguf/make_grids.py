#!/usr/bin/env python3
"""Writes src/io/gguf/gguf_grids.inc: the grids of GGUF's IQ types, facts of the format, from the
values that gguf-py (the package `gguf`) computes. Each entry of a grid becomes four hexadecimal
digits: the places of its values in the list of those that the grid has, the first value in the
lowest bits, 2 bits each where an entry has eight values, 3 where it has four.

    make_grids.py > src/io/gguf/gguf_grids.inc
"""
import numpy as np
from gguf import quants

GRIDS = [("iq2_xxs", "IQ2_XXS", [8, 25, 43]), ("iq2_xs", "IQ2_XS", [8, 25, 43]),
         ("iq2_s", "IQ2_S", [8, 25, 43]),
         ("iq3_xxs", "IQ3_XXS", [4, 12, 20, 28, 36, 44, 52, 62]),
         ("iq3_s", "IQ3_S", [1, 3, 5, 7, 9, 11, 13, 15]), ("iq1", "IQ1_S", [-1, 0, 1])]

print("// The grids of GGUF's IQ types, made by tests/data/gguf/make_grids.py, which says how they are\n"
      "// encoded. Numbers of the format.")
for name, type_name, values in GRIDS:
    cls = getattr(quants, type_name)
    cls.init_grid()
    grid = cls.grid.reshape(-1, cls.grid_shape[1]).astype(int)
    width = 2 if grid.shape[1] == 8 else 3
    digits = ""
    for entry in grid:
        code = sum(values.index(v) << (width * i) for i, v in enumerate(entry))
        digits += f"{code:04x}"
    print(f"constexpr char k{''.join(p.capitalize() for p in name.split('_'))}Grid[] =")
    lines = [digits[i:i + 92] for i in range(0, len(digits), 92)]
    for i, line in enumerate(lines):
        print(f'    "{line}"' + (";" if i + 1 == len(lines) else ""))
