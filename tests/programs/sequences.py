"""Recurrent networks, packed sequences and models of text."""

from __future__ import annotations

from .registry import program, raised


@program
def rnn_layers(torch):
    nn = torch.nn
    results = []
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        model = kind(input_size=3, hidden_size=4, num_layers=2, batch_first=True, bidirectional=True)
        x = torch.randn(2, 5, 3, requires_grad=True)
        out, state = model(x)
        out.sum().backward()
        results += [out, state, x.grad, model.weight_hh_l1_reverse.grad, list(model.state_dict()), str(model)]
    relu = nn.RNN(3, 4, nonlinearity="relu", bias=False)
    results += [relu(torch.randn(5, 3))[0], relu(torch.randn(5, 2, 3), torch.ones(1, 2, 4))[1]]
    lstm = nn.LSTM(3, 4, proj_size=2, dropout=0.3, num_layers=2)
    out, (h, c) = lstm(torch.randn(4, 2, 3))
    return [*results, out, h.shape, c.shape, raised(lambda: lstm(torch.randn(4, 2, 5)))]


@program
def rnn_cells(torch):
    nn = torch.nn
    lstm, gru, rnn = nn.LSTMCell(3, 4), nn.GRUCell(4, 4), nn.RNNCell(4, 2, nonlinearity="relu")
    h = c = torch.zeros(2, 4)
    g = torch.zeros(2, 4)
    outs = []
    for x in torch.randn(5, 2, 3):
        h, c = lstm(x, (h, c))
        g = gru(h, g)
        outs.append(rnn(g))
    loss = torch.stack(outs, dim=1).pow(2).mean()
    loss.backward()
    return [loss, lstm.weight_ih.grad, gru.bias_hh.grad, str(lstm), rnn(torch.zeros(4))]


@program
def packed_sequences(torch):
    from importlib import import_module

    rnn = import_module(f"{torch.nn.__name__}.utils.rnn")
    sequences = [torch.arange(1.0, 4.0), torch.arange(4.0, 9.0), torch.tensor([9.0])]
    padded = rnn.pad_sequence(sequences, batch_first=True, padding_value=-1)
    lengths = torch.tensor([len(s) for s in sequences])
    packed = rnn.pack_padded_sequence(padded.unsqueeze(-1), lengths, batch_first=True, enforce_sorted=False)
    gru = torch.nn.GRU(1, 3, batch_first=True, bidirectional=True)
    out, h = gru(packed)
    unpacked, sizes = rnn.pad_packed_sequence(out, batch_first=True, total_length=6)
    unpacked.sum().backward()
    lstm = torch.nn.LSTM(1, 2, num_layers=2)
    again, (hn, cn) = lstm(rnn.pack_sequence([torch.ones(3, 1), torch.ones(2, 1)]))
    return [
        padded,
        packed.data,
        packed.batch_sizes,
        packed.sorted_indices,
        packed.unsorted_indices,
        unpacked,
        sizes,
        h,
        gru.weight_ih_l0.grad,
        again.data,
        hn,
        cn,
        raised(lambda: rnn.pack_padded_sequence(padded, lengths, batch_first=True)),
        rnn.unpad_sequence(padded, lengths, batch_first=True),
    ]


@program
def sequence_to_sequence(torch):
    nn, F = torch.nn, torch.nn.functional

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn = nn.Embedding(12, 6, padding_idx=0), nn.GRU(6, 8, batch_first=True)

        def forward(self, src):
            return self.rnn(self.emb(src))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Embedding(12, 6, padding_idx=0), nn.GRUCell(14, 8), nn.Linear(8, 12)

        def forward(self, token, hidden, memory, mask):
            scores = torch.bmm(memory, hidden.unsqueeze(2)).squeeze(2).masked_fill(~mask, -1e9)
            context = torch.einsum("bt,bth->bh", scores.softmax(-1), memory)
            hidden = self.rnn(torch.cat([self.emb(token), context], -1), hidden)
            return self.out(hidden), hidden

    enc, dec = Encoder(), Decoder()
    optimizer = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=1e-2)
    src = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9]])
    tgt = torch.tensor([[1, 5, 4, 2], [1, 9, 8, 2]])
    losses = []
    for _ in range(3):
        memory, h = enc(src)
        hidden, loss = h.squeeze(0), 0
        for t in range(tgt.size(1) - 1):
            logits, hidden = dec(tgt[:, t], hidden, memory, src != 0)
            loss += F.cross_entropy(logits, tgt[:, t + 1], ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_([*enc.parameters(), *dec.parameters()], 1.0)
        optimizer.step()
        losses.append((loss.item(), float(norm)))
    return [losses, enc.emb.weight.grad[0], enc.emb.weight[0], logits.argmax(1).tolist()]


@program
def char_lstm_with_sampling(torch):
    nn, F = torch.nn, torch.nn.functional
    text = "the quick brown fox jumps over the lazy dog. "
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in text], dtype=torch.long)

    class CharLM(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(len(chars), 16, num_layers=1), nn.Linear(16, len(chars))

        def forward(self, idx, state=None):
            out, state = self.lstm(F.one_hot(idx, len(chars)).float(), state)
            return self.head(out), state

    model = CharLM()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    state, losses = None, []
    for start in range(0, 40, 10):
        if state is not None:
            state = tuple(s.detach() for s in state)
        logits, state = model(data[start : start + 10].unsqueeze(1), state)
        loss = F.cross_entropy(logits.squeeze(1), data[start + 1 : start + 11])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(f"{loss.item():.3f}")
    model.eval()
    token, state, out = torch.tensor([[stoi["t"]]]), None, "t"
    with torch.no_grad():
        for _ in range(12):
            logits, state = model(token, state)
            probabilities = F.softmax(logits[-1, 0] / 0.9, dim=-1)
            token = torch.multinomial(probabilities, 1).view(1, 1)
            out += chars[token.item()]
    return [losses, out, f"{loss:.4f}", str(loss.item())[:6]]


@program
def embedding_bag_and_ctc(torch):
    nn, F = torch.nn, torch.nn.functional
    bag = nn.EmbeddingBag(10, 3, mode="mean")
    tokens, offsets = torch.tensor([1, 2, 4, 5, 4, 3, 2, 9]), torch.tensor([0, 3, 3, 6])
    y = bag(tokens, offsets)
    y.sum().backward()
    emb = nn.Embedding.from_pretrained(torch.eye(4), freeze=False, max_norm=None)
    logits = torch.randn(6, 2, 5, requires_grad=True)
    ctc = F.ctc_loss(logits.log_softmax(2), torch.tensor([[1, 2, 2], [3, 4, 0]]), torch.tensor([6, 5]), torch.tensor([3, 2]))
    ctc.backward()
    return [
        y,
        bag.weight.grad,
        emb(torch.tensor([[0, 3], [1, 1]])),
        emb.weight.requires_grad,
        ctc,
        logits.grad[:, 0],
        raised(lambda: emb(torch.tensor([4]))),
        str(bag),
        str(emb),
    ]


@program
def beam_search_and_top_p(torch):
    logits = torch.randn(2, 6)
    sorted_logits, indices = torch.sort(logits, descending=True)
    cumulative = torch.cumsum(torch.softmax(sorted_logits, -1), dim=-1)
    remove = cumulative > 0.8
    remove[..., 1:] = remove[..., :-1].clone()
    remove[..., 0] = 0
    filtered = logits.masked_fill(remove.scatter(1, indices, remove), float("-inf"))
    sampled = torch.multinomial(filtered.softmax(-1), 3, replacement=True)
    scores = torch.randn(2, 3).unsqueeze(-1) + torch.randn(2, 3, 7).log_softmax(-1)
    best, flat = scores.view(2, -1).topk(3)
    beams, tokens = torch.div(flat, 7, rounding_mode="floor"), flat % 7
    reordered = torch.arange(12).view(2, 3, 2).gather(1, beams.unsqueeze(-1).expand(-1, -1, 2))
    return [filtered, sampled, best, beams, tokens, reordered, torch.unique(tokens, return_counts=True)]
