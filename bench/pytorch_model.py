"""What both sides of compare_pytorch.py train: configurations, batches, and the model in PyTorch."""
import collections
import math
import pathlib
import random

PAD, BOS, EOS, FIRST_ID = 0, 1, 2, 4
THREADS, DROPOUT, CLIP, RATE, BETAS, EPSILON = 2, 0.1, 1.0, 1e-3, (0.9, 0.98), 1e-9  # as in train_step_bench.cpp
Config = collections.namedtuple("Config", "size heads inner layers source_vocab target_vocab lengths pairs tokens")
CONFIGS = {  # the models of train_step_bench.cpp; a batch has so many pairs, or as many as reach so many target tokens
    "g2p": Config(128, 4, 512, 3, 32, 48, (4, 16), 128, None),
    "tiny": Config(128, 4, 256, 4, 10000, 10000, (6, 32), 128, None),
    "small": Config(256, 4, 1024, 3, 8000, 8000, (6, 40), None, 2048),
    "base": Config(512, 8, 2048, 6, 32000, 32000, (6, 48), None, 16000),
    "big": Config(1024, 16, 4096, 6, 32000, 32000, (6, 48), None, 16000),
}


def model_config(args):
    """The one named args.config, with args.layers of encoder and decoder each if that is given."""
    config = CONFIGS[args.config]
    return config._replace(layers=args.layers) if args.layers else config


def draw_batches(config, count, seed, one_length):
    """Batches of (source, target) lists without EOS, lengths uniform or all the longest; determined by the seed."""
    rng = random.Random(seed)
    shortest, longest = (config.lengths[1],) * 2 if one_length else config.lengths

    def sequence(vocab):
        length = rng.randint(shortest, longest)  # EOS included
        return [rng.randrange(FIRST_ID, vocab) for _ in range(length - 1)]

    def batch():
        pairs = []
        while len(pairs) < config.pairs if config.pairs else target_tokens(pairs) < config.tokens:
            pairs.append((sequence(config.source_vocab), sequence(config.target_vocab)))
        return pairs

    return [batch() for _ in range(count)]


def draw_bucketed(config, count, seed):
    """As draw_batches, of pairs whose two lengths are alike, sorted by length: what a batch is padded by is little."""
    rng = random.Random(seed)
    shortest, longest = config.lengths
    pool = []
    while target_tokens(pool) < count * config.tokens:
        length = rng.randint(shortest, longest)
        lengths = (min(max(length + rng.randint(-3, 3), shortest), longest), length)
        vocabularies = (config.source_vocab, config.target_vocab)
        pool.append(tuple([rng.randrange(FIRST_ID, v) for _ in range(n - 1)] for n, v in zip(lengths, vocabularies)))
    pool.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    batches = [[]]
    for pair in pool:
        if target_tokens(batches[-1]) + len(pair[1]) + 1 > config.tokens and len(batches) < count:
            batches.append([])
        batches[-1].append(pair)
    rng.shuffle(batches)
    return batches


def target_tokens(batch):
    return sum(len(target) + 1 for _, target in batch)


def padded_positions(batch):
    """Of source and target, padded to their longest sequences."""
    return sum((max(map(len, side)) + 1) * len(batch) for side in zip(*batch))


def density(batches, positions=padded_positions):
    """Share of source and target positions that are not padding, where a batch is padded to `positions` of it."""
    used = sum(len(ids) + 1 for batch in batches for pair in batch for ids in pair)
    return used / sum(map(positions, batches))


def write_batches(path, batches):
    """One pair a line, an empty line between batches."""
    join = lambda ids: " ".join(map(str, ids))
    path.write_text("\n".join("".join(f"{join(s)}\t{join(t)}\n" for s, t in batch) for batch in batches))


def read_batches(path):
    split = lambda ids: [int(i) for i in ids.split()]
    return [[tuple(map(split, line.split("\t"))) for line in block.splitlines()]
            for block in pathlib.Path(path).read_text().split("\n\n")]


def make_model(torch, config):
    nn = torch.nn

    class Seq2Seq(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_embedding = nn.Embedding(config.source_vocab, config.size)
            self.target_embedding = nn.Embedding(config.target_vocab, config.size)
            self.transformer = nn.Transformer(config.size, config.heads, config.layers, config.layers, config.inner,
                                              DROPOUT, norm_first=True, batch_first=True)
            self.dropout = nn.Dropout(DROPOUT)
            for embedding in (self.source_embedding, self.target_embedding):
                nn.init.normal_(embedding.weight, std=config.size**-0.5)
            angle = torch.arange(config.lengths[1])[:, None] / 10000 ** (torch.arange(0, config.size, 2) / config.size)
            positions = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
            self.register_buffer("positions", positions)

        def embed(self, embedding, ids):
            return self.dropout(embedding(ids) * math.sqrt(config.size) + self.positions[:ids.shape[1]])

        def forward(self, source, target_in, labels, source_padding, target_padding, causal):
            hidden = self.transformer(
                self.embed(self.source_embedding, source), self.embed(self.target_embedding, target_in),
                tgt_mask=causal, src_key_padding_mask=source_padding, tgt_key_padding_mask=target_padding,
                memory_key_padding_mask=source_padding, src_is_causal=False, tgt_is_causal=True, memory_is_causal=False)
            logits = hidden @ self.target_embedding.weight.T
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD)

    return Seq2Seq()


def pad_batch(torch, batch):
    """The arguments of forward. Masks of padding only where there is some: without them attention is faster."""
    pad_rows = torch.nn.utils.rnn.pad_sequence
    source, labels = (pad_rows([torch.tensor(ids + [EOS]) for ids in side], batch_first=True, padding_value=PAD)
                      for side in zip(*batch))
    target_in = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], dim=1)
    padding = lambda ids: (ids == PAD) if (ids == PAD).any() else None
    causal = torch.triu(torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool), diagonal=1)
    return source, target_in, labels, padding(source), padding(labels), causal
