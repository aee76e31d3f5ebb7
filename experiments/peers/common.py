"""What the comparisons with PyTorch share: its message steps, files of tensors, and timing."""

import json
import math
import statistics
import subprocess
import time
from pathlib import Path

import torch


def cutoff(d, r_cut):
    return 0.5 * (torch.cos(d * (math.pi / r_cut)) + 1.0)


def painn(t, receiver):
    d = torch.linalg.norm(t["edge_vec"], dim=1, keepdim=True)
    u = t["edge_vec"] / d
    k = torch.arange(1, t["A"].shape[0] + 1, dtype=d.dtype, device=d.device)
    phi = torch.sin(d * k * (math.pi / t["r_cut"])) / d
    w = cutoff(d, t["r_cut"]) * (phi @ t["A"] + t["b"])
    features = t["mu"].shape[2]
    w_q, w_r, w_mu = torch.split(t["s"][t["sender"]] * w, features, dim=1)
    dq = torch.zeros_like(t["mu"][:, 0]).index_add(0, receiver, w_q)
    messages = w_r[:, None, :] * u[:, :, None] + w_mu[:, None, :] * t["mu"][t["sender"]]
    return dq, torch.zeros_like(t["mu"]).index_add(0, receiver, messages)


def cfconv(t, receiver):
    d = torch.linalg.norm(t["edge_vec"], dim=1, keepdim=True)
    phi = torch.exp(-t["basis.gamma"] * (d - t["basis.mu"]) ** 2)
    hidden = torch.nn.functional.softplus(phi @ t["A1"] + t["b1"]) - math.log(2.0)
    w = cutoff(d, t["r_cut"]) * (hidden @ t["A2"] + t["b2"])
    return (torch.zeros_like(t["x"]).index_add(0, receiver, t["x"][t["sender"]] * w),)


def load(path, device):
    """A safetensors file; read here, since a machine with a GPU may have PyTorch and nothing else."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F32": torch.float32, "F64": torch.float64, "U32": torch.int32}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = dtypes[entry["dtype"]]
        buffer = bytearray(data[start + begin : start + end])
        flat = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"]).to(device)
    return tensors


def median_ms(function, seconds, device):
    """Median time of a call. On a GPU a sample is the mean of as many calls in a row as take a millisecond, as forgefield's is."""

    def sample(calls):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start) / calls

    samples = []
    begin = time.perf_counter()
    while len(samples) < 3 or (time.perf_counter() - begin < seconds and len(samples) < 10_000):
        once = sample(1)
        samples.append(once if device != "cuda" or once >= 1 else sample(min(50, int(1 / once) + 1)))
    return statistics.median(samples)


def bench(args, cases, *more):
    command = [args.forgefield, "bench", "--quiet", "--runtime", args.runtime, "--case", ",".join(cases)]
    command += ["--threads", str(args.threads)] if args.runtime == "host" else []
    command += ["--tables", args.tables] if args.tables else []
    command += ["--structure", *args.structure] if args.structure else []
    done = subprocess.run([*command, "--json", *more], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
