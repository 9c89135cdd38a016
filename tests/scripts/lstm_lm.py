"""A word language model in the manner of PyTorch's examples: LSTM, tied weights, truncated backpropagation, annealing."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1111)
words = ("a rose is a rose is a rose . it is what it is . to be or not to be that is the question . " * 6).split()


class Dictionary:
    def __init__(self):
        self.word2idx, self.idx2word = {}, []

    def add_word(self, word):
        if word not in self.word2idx:
            self.idx2word.append(word)
            self.word2idx[word] = len(self.idx2word) - 1
        return self.word2idx[word]

    def __len__(self):
        return len(self.idx2word)


class RNNModel(nn.Module):
    def __init__(self, rnn_type, ntoken, ninp, nhid, nlayers, dropout=0.5, tie_weights=False):
        super().__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = getattr(nn, rnn_type)(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            if nhid != ninp:
                raise ValueError("When using the tied flag, nhid must be equal to emsize")
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        self.rnn_type, self.nhid, self.nlayers = rnn_type, nhid, nlayers

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output)).view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        if self.rnn_type == "LSTM":
            return (weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid))
        return weight.new_zeros(self.nlayers, bsz, self.nhid)


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    return data.narrow(0, 0, nbatch * bsz).view(bsz, -1).t().contiguous()


bptt, batch_size, clip, lr = 7, 4, 0.25, 2.0
dictionary = Dictionary()
ids = torch.tensor([dictionary.add_word(w) for w in words]).type(torch.int64)
train_data = batchify(ids, batch_size)
step = 0
for kind in ("LSTM", "GRU"):
    model = RNNModel(kind, len(dictionary), 24, 24, 2, dropout=0.2, tie_weights=True)
    criterion = nn.NLLLoss()
    model.train()
    hidden = model.init_hidden(batch_size)
    for epoch in range(2):
        for batch, i in enumerate(range(0, train_data.size(0) - 1, bptt)):
            seq_len = min(bptt, len(train_data) - 1 - i)
            data, targets = train_data[i:i + seq_len], train_data[i + 1:i + 1 + seq_len].view(-1)
            model.zero_grad()
            hidden = repackage_hidden(hidden)
            output, hidden = model(data, hidden)
            loss = criterion(output, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-lr)
            print(f"step {step} loss {loss.item():.7f}")
            step += 1
        lr /= 2.0
    model.eval()
    with torch.no_grad():
        output, _ = model(train_data[:-1], model.init_hidden(batch_size))
        final = criterion(output, train_data[1:].view(-1)).item()
    print(f"step {step} loss {final:.7f} ppl {math.exp(final):.2f}")
    step += 1
    lr = 2.0
