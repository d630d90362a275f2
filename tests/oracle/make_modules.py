"""Writes modules.safetensors, which modules_test.cpp holds single modules and optimizers to: what PyTorch computes for the same weights, in f64.

  python3 tests/oracle/make_modules.py [--venv FOLDER]

For each module its state_dict, an input, the output, and the gradients for a random upstream gradient; for each optimizer weights, the
gradients of eight steps, and the weights after each. Deterministic: run again, it writes the same bytes.
"""
import argparse
import pathlib

import make_oracle
import torch_env


def cases():
    """name: (module, its inputs, what of its result is the output)"""
    nn, x = torch.nn, lambda *shape: torch.randn(shape, dtype=torch.float64)
    first, own = (lambda y: y[0]), (lambda y: y)
    return {
        "linear": (nn.Linear(5, 3), [x(4, 5)], own),
        "layer_norm": (nn.LayerNorm(6), [x(4, 6)], own),
        "sequential": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.LayerNorm(7), nn.Linear(7, 3)), [x(4, 5)], own),
        "gru_cell": (nn.GRUCell(5, 6), [x(3, 5), x(3, 6)], own),
        "lstm_cell": (nn.LSTMCell(5, 6), [x(3, 5), x(3, 6), x(3, 6)], lambda y: torch.cat(y, 1)),
        "gru": (nn.GRU(5, 6, num_layers=2), [x(7, 3, 5)], first),
        "lstm": (nn.LSTM(5, 6, num_layers=2), [x(7, 3, 5)], first),
        "attention": (nn.MultiheadAttention(8, 2, batch_first=True), [x(2, 5, 8)], first),
    }


def call(name, module, inputs):
    if name == "lstm_cell":
        return module(inputs[0], (inputs[1], inputs[2]))
    return module(*inputs * 3) if name == "attention" else module(*inputs)


def write_case(tensors, name, module, inputs, output_of):
    module = module.double()
    for parameter in module.parameters():  # exactly representable in f32
        parameter.data = (parameter.data + 0.2 * torch.randn(parameter.shape, dtype=torch.float64)).float().double()
    for value in inputs:
        value.requires_grad_()
    y = output_of(call(name, module, inputs))
    dy = torch.randn(y.shape, dtype=torch.float64)
    names = [n for n, _ in module.named_parameters()]
    gradients = torch.autograd.grad((y * dy).sum(), inputs + list(module.parameters()))
    for i, value in enumerate(inputs):
        tensors[f"{name}/x{i}"], tensors[f"{name}/dx{i}"] = (value, "F64"), (gradients[i], "F64")
    tensors[f"{name}/y"], tensors[f"{name}/dy"] = (y, "F64"), (dy, "F64")
    tensors |= {f"{name}/weights/{n}": (p, "F32") for n, p in module.named_parameters()}
    tensors |= {f"{name}/grads/{n}": (g, "F64") for n, g in zip(names, gradients[len(inputs):])}


def write_optimizer(tensors, name, make):
    """Two parameters; the second has half the rate and no decay."""
    parameters = [torch.nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), torch.nn.Parameter(torch.randn(5, dtype=torch.float64))]
    tensors |= {f"{name}/start{i}": (p.detach().clone(), "F64") for i, p in enumerate(parameters)}
    optimizer = make([{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.005, "weight_decay": 0.0}])
    for step in range(8):
        for i, p in enumerate(parameters):
            p.grad = torch.randn(p.shape, dtype=torch.float64)
            tensors[f"{name}/gradient{i}/{step}"] = (p.grad.clone(), "F64")
        optimizer.step()
        tensors |= {f"{name}/after{i}/{step}": (p.detach().clone(), "F64") for i, p in enumerate(parameters)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", default=".venv-torch", help="folder of the environment with PyTorch; made if needed (default %(default)s)")
    torch_env.enter(parser.parse_args().venv)
    import torch
    make_oracle.torch = torch
    torch.set_num_threads(1)
    torch.manual_seed(3)
    tensors = {}
    for name, case in cases().items():
        write_case(tensors, name, *case)
    write_optimizer(tensors, "adamw", lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.1))
    write_optimizer(tensors, "sgd", lambda groups: torch.optim.SGD(groups, lr=0.01, weight_decay=0.1))
    write_optimizer(tensors, "momentum", lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.1))
    write_optimizer(tensors, "nesterov", lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True))
    path = pathlib.Path(__file__).parent / "modules.safetensors"
    make_oracle.write_safetensors(path, tensors, {"torch": torch.__version__, "script": "make_modules.py"})
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")
