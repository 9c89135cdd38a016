"""A character-level transformer on a text file, as one would write it for PyTorch: nothing in here knows of flambeau.

    python train.py FILE                 with PyTorch
    flambeau run train.py FILE           with flambeau
    flambeau run train.py FILE --compile
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    """Every window of `length` characters, and the same window one character on."""

    def __init__(self, ids, length):
        self.ids, self.length = ids, length

    def __len__(self):
        return len(self.ids) - self.length

    def __getitem__(self, i):
        return self.ids[i:i + self.length], self.ids[i + 1:i + self.length + 1]


class CharLM(nn.Module):
    def __init__(self, vocabulary, length, dim=64, heads=4, layers=2):
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.zeros(length, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True,
                                           norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, vocabulary)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, ids):
        n = ids.shape[1]
        x = self.token(ids) + self.position[:n]
        return self.head(self.layers(x, mask=self.mask[:n, :n]))


@torch.no_grad()
def sample(model, ids, count):
    """Continue `ids` by `count` characters, the likeliest each time."""
    length = model.position.shape[0]
    for _ in range(count):
        logits = model(ids[None, -length:])[0, -1]
        ids = torch.cat([ids, logits.argmax().reshape(1)])
    return ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--save", type=Path, help="where to leave the trained parameters")
    args = parser.parse_args()

    torch.manual_seed(0)
    text = args.file.read_text()
    characters = sorted(set(text))
    ids = torch.tensor([characters.index(c) for c in text])
    loader = DataLoader(Windows(ids, args.length), batch_size=args.batch, shuffle=True, drop_last=True)

    model = CharLM(len(characters), args.length)
    print(f"torch {torch.__version__}, {sum(p.numel() for p in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    step_model = torch.compile(model) if args.compile else model

    step, start = 0, time.perf_counter()
    while step < args.steps:
        for inputs, targets in loader:
            loss = F.cross_entropy(step_model(inputs).flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0 or step == 1:
                print(f"step {step:4d}  loss {loss.item():.4f}  {step / (time.perf_counter() - start):.1f} steps/s")
            if step == args.steps:
                break

    model.eval()
    written = sample(model, ids[:args.length], 80)
    print(repr("".join(characters[i] for i in written.tolist())))
    if args.save:
        torch.save(model.state_dict(), args.save)
        fresh = CharLM(len(characters), args.length)
        fresh.load_state_dict(torch.load(args.save))
        assert torch.equal(fresh.eval()(ids[None, :args.length]), model(ids[None, :args.length]))


if __name__ == "__main__":
    main()
