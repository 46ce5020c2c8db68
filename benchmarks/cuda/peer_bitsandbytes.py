#!/usr/bin/env python3
"""bitsandbytes beside what bench_cuda_llm_int8 and bench_cuda_decode4 have measured, on the same device.

  python3 peer_bitsandbytes.py RECORDS.json    prints a table and adds "bitsandbytes" to the records' peers_us

Its layers are called as users of torch call them: Linear8bitLt (fp16, in which it computes; threshold 6 where there
are outlier columns, else 0) and Linear4bit (bfloat16), with weights that rotate through more than twice the
second-level cache. In a CUDA graph, as ours; but where there are outliers without one, since its host waits within a call
to see them. Exit code 77: no torch with CUDA, or no bitsandbytes.
"""
import json
import re
import statistics
import sys

try:
    import bitsandbytes as bnb
    import torch

    if not torch.cuda.is_available():
        raise ImportError("torch sees no CUDA device")
except Exception as missing:  # a library that does not load is no error of kvant's
    print(f"bitsandbytes: not measured ({missing})")
    sys.exit(77)


def layers_of(make, weight_bytes):
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return [make() for _ in range(max(2, -(-2 * cache // weight_bytes) + 1))]


def timed(run, calls):
    """Median of one call's microseconds."""
    samples = []
    for _ in range(7):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3 / calls)
    return statistics.median(samples)


def measure(layers, x, in_graph):
    """Microseconds of a call."""
    calls = max(len(layers), 20)

    def run():
        for i in range(calls):
            layers[i % len(layers)](x)

    with torch.no_grad():
        run()
        torch.cuda.synchronize()
        if not in_graph:
            return timed(run, calls)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        graph.replay()
        return timed(graph.replay, calls)


def int8(m, n, k, outliers):
    """Microseconds of a call, and whether it was in a graph; as below."""
    threshold = 6.0 if outliers else 0.0

    def make():
        layer = bnb.nn.Linear8bitLt(k, n, bias=False, has_fp16_weights=False, threshold=threshold)
        return layer.half().cuda()

    x = torch.rand(m, k, device="cuda", dtype=torch.float16) * 2 - 1
    for j in range(outliers):
        x[j * 7 % m, (j * 977 + 5) % k] = 20.0
    return measure(layers_of(make, n * k), x, in_graph=not outliers), not outliers


def four_bits(m, n, k, kind):
    def make():
        layer = bnb.nn.Linear4bit(k, n, bias=False, compute_dtype=torch.bfloat16, quant_type=kind)
        return layer.to(torch.bfloat16).cuda()

    x = torch.rand(m, k, device="cuda", dtype=torch.bfloat16) * 2 - 1
    return measure(layers_of(make, n * k // 2), x, in_graph=True), True


def measured(record):
    what = record["what"]
    found = re.fullmatch(r"M=(\d+) (\d+)x(\d+), (\d+) outlier columns", what)
    if record["question"] == "llm_int8" and found:
        return int8(*(int(number) for number in found.groups()))
    found = re.fullmatch(r"(nf4|fp4) g64 M=(\d+) (\d+)x(\d+)", what)
    if record["question"] == "decode4" and found:
        return four_bits(*(int(number) for number in found.groups()[1:]), found.group(1))
    return None


def main():
    with open(sys.argv[1]) as file:
        records = json.load(file)
    print(f"\nbitsandbytes {bnb.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name()}")
    for record in records:
        result = measured(record)
        if result is None:
            continue
        us, graph = result
        record["peers_us"]["bitsandbytes"] = us
        print(f"{record['question']:9} {record['what']:40} kvant {record['us']:9.1f} us, bitsandbytes {us:9.1f} us"
              f"{'' if graph else ' (no graph)'}: {us / record['us']:.1f}x", flush=True)
        torch.cuda.empty_cache()
    with open(sys.argv[1], "w") as file:
        json.dump(records, file, indent=1)


main()
