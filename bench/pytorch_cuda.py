"""PyTorch's side of compare_pytorch.py on a CUDA device."""
import itertools
import json
import sys
import time

import pytorch_packed
from pytorch_model import BETAS, BOS, CLIP, DROPOUT, EOS, EPSILON, PAD, RATE, make_model, model_config, pad_batch, read_batches, target_tokens


COMPILED = {"compile": "max-autotune", "compile-quick": "reduce-overhead"}  # variant → mode of torch.compile; both replay CUDA graphs


def round_up(batch):
    """Sides of a batch padded to a multiple of 16 tokens and 8 pairs. A pair that was added is one word without a label."""
    sides = []
    for side, extra in zip(zip(*batch), (EOS, PAD)):
        rows = [ids + [EOS] for ids in side]
        length = -(-max(map(len, rows)) // 16) * 16
        rows += [[extra]] * (-len(rows) % 8)
        sides.append([ids + [PAD] * (length - len(ids)) for ids in rows])
    return sides


def rounded_positions(batch):
    return sum(len(side) * len(side[0]) for side in round_up(batch))


def pad_to_bucket(torch, batch):
    """As pad_batch, in few shapes; masks always, so that the graph is one."""
    source, labels = (torch.tensor(side) for side in round_up(batch))
    target_in = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], dim=1)
    target_padding = labels == PAD
    target_padding[:, 0] = False  # of the pairs that were added: a row with nothing to attend to would be NaN
    causal = torch.triu(torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool), diagonal=1)
    return source, target_in, labels, source == PAD, target_padding, causal


def to_cuda(tensors):
    return [t if t is None else t.cuda() for t in tensors]


def loss_of_packed(torch, model, batches, precision):
    """(loss function, its batches), after checking that it is the padded model's."""
    packed = pytorch_packed.Packed(torch, model, DROPOUT)
    ready = [pytorch_packed.pack(torch, batch, "cuda", BOS, EOS) for batch in batches]
    model.eval()
    with torch.no_grad(), precision():
        ours, theirs = packed.loss(*ready[0]).item(), model(*to_cuda(pad_batch(torch, batches[0]))).item()
    model.train()
    if not abs(ours - theirs) < 0.01 * abs(theirs):
        sys.exit(f"error: packed by {packed.name}, the loss is {ours}, padded {theirs}")
    return packed.loss, ready


def prepare_on_cuda(torch, variant, model, batches, precision):
    """(loss function, its batches, on the device)"""
    if variant == "packed":
        return loss_of_packed(torch, model, batches, precision)
    if variant in COMPILED:
        return torch.compile(model, mode=COMPILED[variant], dynamic=False), [to_cuda(pad_to_bucket(torch, b)) for b in batches]
    return model, [to_cuda(pad_batch(torch, batch)) for batch in batches]


def train_on_cuda(args):
    try:
        import torch
    except ImportError:
        sys.exit(f"error: {sys.executable} has no PyTorch; --python names one that has")
    if not torch.cuda.is_available():
        sys.exit(f"error: PyTorch {torch.__version__} finds no CUDA device")
    if args.worker == "describe":
        return print(json.dumps({"version": torch.__version__, "build": torch.cuda.get_device_name()}))
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = make_model(torch, model_config(args)).cuda()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
    precision = lambda: torch.autocast("cuda", torch.bfloat16)
    pairs = read_batches(args.batches)
    try:
        loss_of, batches = prepare_on_cuda(torch, args.worker, model, pairs, precision)
    except pytorch_packed.Unavailable as reason:
        sys.exit(f"error: {reason}")
    steps = zip(range(args.warmup + args.steps), itertools.cycle(zip(pairs, batches)))
    targets = 0
    for step, (pair_list, batch) in steps:
        if step == args.warmup:
            torch.cuda.synchronize()
            start = time.perf_counter()
        torch.compiler.cudagraph_mark_step_begin() if args.worker in COMPILED else None
        optimizer.zero_grad(set_to_none=True)
        with precision():
            loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        targets += target_tokens(pair_list) if step >= args.warmup else 0
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(json.dumps({
        "target_tokens_per_second": targets / seconds, "step_seconds": [seconds],
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "final_loss": loss.item(),
        "parameters": sum(p.numel() for p in parameters)}))
