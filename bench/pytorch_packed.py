"""The model of compare_pytorch.py on packed batches: PyTorch's variable-length attention on sequences end to end, no padding anywhere.

Uses the parameters of the padded model, so that both are one and the same: `packed_loss(...)` of a batch equals the padded loss but for
rounding, which compare_pytorch.py checks before it times anything.
"""
import importlib.util


class Unavailable(Exception):
    """This PyTorch has no attention on packed sequences; says what would have it."""


def by_flash_attn():
    from flash_attn import flash_attn_varlen_func

    def attend(q, k, v, q_side, k_side, dropout, causal):
        return flash_attn_varlen_func(q, k, v, q_side.offsets, k_side.offsets, q_side.longest, k_side.longest,
                                      dropout_p=dropout, causal=causal)
    return "flash_attn", attend


def by_nested_tensors(torch):
    """Jagged nested tensors, which scaled_dot_product_attention hands to its flash kernel with the offsets."""
    jagged = torch.nested.nested_tensor_from_jagged

    def attend(q, k, v, q_side, k_side, dropout, causal):
        nest = lambda x, side: jagged(x, side.offsets, min_seqlen=1, max_seqlen=side.longest).transpose(1, 2)
        y = torch.nn.functional.scaled_dot_product_attention(nest(q, q_side), nest(k, k_side), nest(v, k_side),
                                                             dropout_p=dropout, is_causal=causal)
        return y.transpose(1, 2).values()
    return "jagged nested tensors", attend


def find_attention(torch):
    """(its name, attend(q, k, v [tokens, heads, head size], sides, dropout, causal)); throws Unavailable."""
    if importlib.util.find_spec("flash_attn"):
        return by_flash_attn()
    if hasattr(torch.nested, "nested_tensor_from_jagged"):
        return by_nested_tensors(torch)
    raise Unavailable(f"PyTorch {torch.__version__} has no attention on packed sequences: 2.5 or later has, or install flash-attn")


class Side:
    """Sequences end to end: ids i32[tokens], positions, offsets i32[sequences + 1], the longest length."""

    def __init__(self, torch, sequences, device):
        lengths = [len(ids) for ids in sequences]
        self.ids = torch.tensor([i for ids in sequences for i in ids], device=device)
        self.positions = torch.tensor([at for n in lengths for at in range(n)], device=device)
        self.offsets = torch.tensor([0, *lengths], device=device).cumsum(0).int()
        self.longest = max(lengths)


def pack(torch, batch, device, bos, eos):
    """(sources, decoder inputs, labels) of a batch of pairs."""
    sources = Side(torch, [s + [eos] for s, _ in batch], device)
    inputs = Side(torch, [[bos] + t for _, t in batch], device)
    labels = Side(torch, [t + [eos] for _, t in batch], device)
    return sources, inputs, labels.ids


class Packed:
    def __init__(self, torch, model, dropout):
        self.torch, self.model, self.dropout = torch, model, dropout
        self.name, self.kernel = find_attention(torch)

    def attend(self, module, x, memory, x_side, memory_side, causal):
        linear, size, heads = self.torch.nn.functional.linear, module.embed_dim, module.num_heads
        weight, bias = module.in_proj_weight, module.in_proj_bias
        if memory is x:
            q, k, v = linear(x, weight, bias).unflatten(-1, (3, heads, -1)).unbind(1)
        else:
            q = linear(x, weight[:size], bias[:size]).unflatten(-1, (heads, -1))
            k, v = linear(memory, weight[size:], bias[size:]).unflatten(-1, (2, heads, -1)).unbind(1)
        p = self.dropout if self.model.training else 0.0
        y = self.kernel(q.contiguous(), k.contiguous(), v.contiguous(), x_side, memory_side, p, causal)
        return module.out_proj(y.flatten(1))

    def encoder_layer(self, layer, x, side):
        h = layer.norm1(x)
        x = x + layer.dropout1(self.attend(layer.self_attn, h, h, side, side, False))
        return x + layer.dropout2(layer.linear2(layer.dropout(layer.activation(layer.linear1(layer.norm2(x))))))

    def decoder_layer(self, layer, x, side, memory, memory_side):
        h = layer.norm1(x)
        x = x + layer.dropout1(self.attend(layer.self_attn, h, h, side, side, True))
        x = x + layer.dropout2(self.attend(layer.multihead_attn, layer.norm2(x), memory, side, memory_side, False))
        return x + layer.dropout3(layer.linear2(layer.dropout(layer.activation(layer.linear1(layer.norm3(x))))))

    def embed(self, embedding, side):
        scale = embedding.embedding_dim**0.5
        return self.model.dropout(embedding(side.ids) * scale + self.model.positions[side.positions])

    def loss(self, sources, inputs, labels):
        """The mean over all targets."""
        encoder, decoder = self.model.transformer.encoder, self.model.transformer.decoder
        memory = self.embed(self.model.source_embedding, sources)
        for layer in encoder.layers:
            memory = self.encoder_layer(layer, memory, sources)
        memory = encoder.norm(memory)
        x = self.embed(self.model.target_embedding, inputs)
        for layer in decoder.layers:
            x = self.decoder_layer(layer, x, inputs, memory, sources)
        logits = decoder.norm(x) @ self.model.target_embedding.weight.T
        return self.torch.nn.functional.cross_entropy(logits, labels)
