# Writes wgmma_ptx.inc: the one instruction whose operand list is too long to type.
#   python3 make_wgmma.py > wgmma_ptx.inc


def lines(items, per_line):
    return [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]


def one(n):
    count = n // 2
    registers = lines([f"%{i}" for i in range(count)], 16)
    body = "\n".join(f'      "{line}, "' for line in registers[:-1])
    body += "\n" if body else ""
    operands = ",\n        ".join(lines([f'"+r"(d[{i}])' for i in range(count)], 8))
    return f"""/// d[64 x {n}] (+)= a[64 x 32] b[{n} x 32]^T by a warpgroup; accumulate 0 overwrites d.
KVANT_DEVICE void wgmma_s8(std::int32_t (&d)[{count}], std::uint64_t a, std::uint64_t b,
                           int accumulate) {{
  KVANT_SM90A(asm volatile(
      "{{\\n.reg .pred accumulate;\\nsetp.ne.b32 accumulate, %{count + 2}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{n}k32.s32.s8.s8 {{"
{body}      "{registers[-1]}}}, %{count}, %{count + 1}, accumulate;\\n}}\\n"
      : {operands}
      : "l"(a), "l"(b), "r"(accumulate)));
}}"""


print("// Written by make_wgmma.py.")
print("\n".join(one(n) for n in (8, 16, 32, 64, 128, 256)))
