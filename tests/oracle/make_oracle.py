"""Writes the files that oracle_test.cpp holds libtrain to: a small seq2seq transformer, built and trained by PyTorch in f64.

  python3 tests/oracle/make_oracle.py [--venv FOLDER]

Two files, for norm first and norm last: initial weights, two batches, logits, losses, every gradient, and 20 clipped Adam steps with a schedule.
Deterministic: run again, it writes the same bytes.
"""
import argparse
import itertools
import json
import math
import pathlib
import struct

import torch_env

PAD, BOS, EOS = 0, 1, 2
SOURCE_VOCAB, TARGET_VOCAB, SIZE, HEADS, INNER, LAYERS = 23, 19, 16, 4, 32, 2
KINK = 5e-5  # how far every ReLU stays from 0: far above what f32 rounds
STEPS, PEAK_RATE, WARMUP, CLIP, BETAS, EPSILON = 20, 3e-3, 5, 1.0, (0.9, 0.98), 1e-9


def positions(length):
    table = torch.zeros(length, SIZE, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    table[:, 0::2], table[:, 1::2] = angle.sin(), angle.cos()
    return table


def build(norm_first):
    nn = torch.nn
    options = dict(dim_feedforward=INNER, dropout=0.0, activation="relu", layer_norm_eps=1e-5, batch_first=True, norm_first=norm_first)
    norm = (lambda: nn.LayerNorm(SIZE)) if norm_first else (lambda: None)
    return nn.ModuleDict({
        "source_embedding": nn.Embedding(SOURCE_VOCAB, SIZE),
        "target_embedding": nn.Embedding(TARGET_VOCAB, SIZE),
        "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(SIZE, HEADS, **options), LAYERS, norm(), enable_nested_tensor=False),
        "decoder": nn.TransformerDecoder(nn.TransformerDecoderLayer(SIZE, HEADS, **options), LAYERS, norm()),
    }).double()


def randomize(model):
    """Every parameter away from its trivial start, and exactly representable in f32."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, dtype=torch.float64)
        scale = 0.25 if parameter.dim() > 1 else 0.1
        start = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = (start + scale * noise).float().double()


def random_batch(longest_source, longest_target, pairs):
    def sequences(longest, vocab):
        rows = torch.full((pairs, longest), PAD)
        for i in range(pairs):
            length = longest - i * (longest - 1) // (pairs - 1)  # from the longest down to a lone EOS
            rows[i, :length - 1] = torch.randint(4, vocab, (length - 1,))
            rows[i, length - 1] = EOS
        return rows[torch.randperm(pairs)]
    return sequences(longest_source, SOURCE_VOCAB), sequences(longest_target, TARGET_VOCAB)


def forward(model, source, labels):
    target = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], dim=1)
    embed = lambda table, ids: model[table](ids) * math.sqrt(SIZE) + positions(ids.shape[1])
    memory = model["encoder"](embed("source_embedding", source), src_key_padding_mask=source == PAD)
    causal = torch.triu(torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool), diagonal=1)
    hidden = model["decoder"](embed("target_embedding", target), memory, tgt_mask=causal, tgt_key_padding_mask=labels == PAD,
                              memory_key_padding_mask=source == PAD)
    return hidden @ model["target_embedding"].weight.T


class KinkDistance:
    """The smallest |x| that a ReLU has met at a token. Where it is like a rounding, a step in f32 may take another turn than in f64."""

    def __init__(self, model):
        self.smallest, self.is_token = math.inf, {}
        for side in ("encoder", "decoder"):
            for layer in model[side].layers:
                layer.linear1.register_forward_hook(lambda _, __, x, side=side: self.see(x[self.is_token[side]]))

    def see(self, x):
        self.smallest = min(self.smallest, x.abs().min().item())


def mean_loss(logits, labels, smoothing=0.0):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD, label_smoothing=smoothing)


def train(model, batches):
    """20 steps with Adam and the clip written out. Returns losses, norms and rates, and how near a ReLU came to its kink."""
    parameters, kinks = list(model.parameters()), KinkDistance(model)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    losses, norms, rates = [], [], []
    for step in range(1, STEPS + 1):
        source, labels = batches[(step - 1) % 2]
        kinks.is_token = {"encoder": source != PAD, "decoder": labels != PAD}
        loss = mean_loss(forward(model, source, labels), labels)
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        factor = min(1.0, CLIP / norm.item())
        rate = PEAK_RATE * min(step / WARMUP, math.sqrt(WARMUP / step))
        with torch.no_grad():
            for p, g, (m, v) in zip(parameters, gradients, moments):
                m.mul_(BETAS[0]).add_((1 - BETAS[0]) * factor * g)
                v.mul_(BETAS[1]).add_((1 - BETAS[1]) * (factor * g) ** 2)
                p.sub_(rate * (m / (1 - BETAS[0] ** step)) / ((v / (1 - BETAS[1] ** step)).sqrt() + EPSILON))
        losses.append(loss.item()), norms.append(norm.item()), rates.append(rate)
    return losses, norms, rates, kinks.smallest


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name in sorted(tensors):
        tensor, dtype = tensors[name]
        raw = tensor.detach().to({"F32": torch.float32, "F64": torch.float64, "I32": torch.int32}[dtype]).contiguous().numpy().tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_oracle(path, norm_first, seed):
    """Whether it was written: not where a ReLU comes too near to its kink."""
    torch.manual_seed(seed)
    model = build(norm_first)
    randomize(model)
    batches = [random_batch(9, 8, 6), random_batch(6, 7, 5)]
    tensors = {f"weights/{n}": (p.clone(), "F32") for n, p in model.named_parameters()}
    for i, (source, labels) in enumerate(batches):
        tensors[f"batch{i}/source_ids"], tensors[f"batch{i}/target_ids"] = (source, "I32"), (labels, "I32")
    source, labels = batches[0]
    logits = forward(model, source, labels)
    loss = mean_loss(logits, labels)
    tensors |= {"logits": (logits, "F64"), "loss": (loss, "F64"), "loss_smoothed": (mean_loss(logits, labels, 0.1), "F64")}
    names = [n for n, _ in model.named_parameters()]
    tensors |= {f"grads/{n}": (g, "F32") for n, g in zip(names, torch.autograd.grad(loss, list(model.parameters())))}
    losses, norms, rates, kink = train(model, batches)
    if kink < KINK:
        return False
    for name, values in (("losses", losses), ("norms", norms), ("rates", rates)):
        tensors[name] = (torch.tensor(values, dtype=torch.float64), "F64")
    tensors |= {f"final/{n}": (p, "F32") for n, p in model.named_parameters()}
    about = {"torch": torch.__version__, "script": "make_oracle.py", "norm_first": str(norm_first), "seed": str(seed)}
    write_safetensors(path, tensors, about)
    print(f"{path.name}: {path.stat().st_size} bytes, losses {losses[0]:.4f} to {losses[-1]:.4f}, norms {min(norms):.2f} to {max(norms):.2f}")
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", default=".venv-torch", help="folder of the environment with PyTorch; made if needed (default %(default)s)")
    torch_env.enter(parser.parse_args().venv)
    import torch
    torch.set_num_threads(1)
    here = pathlib.Path(__file__).parent
    for name, norm_first in (("pre_norm", True), ("post_norm", False)):
        next(seed for seed in itertools.count(1) if write_oracle(here / f"seq2seq_{name}.safetensors", norm_first, seed))
