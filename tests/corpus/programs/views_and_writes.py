"""Views, writes in place, aliases among arguments and results, `out=`, items assigned."""

from ..given import program, rand, torch

X = rand(4, 3)


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def writes_an_argument(x):
    x.add_(1)
    return x * 2


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def writes_a_view_of_an_argument(x):
    x[1].zero_()
    x[:, 0] = 5
    return x.sum()


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def writes_and_returns_the_argument(x):
    y = x.mul_(2)
    return x, y, y is x


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def returns_views_of_the_argument(x):
    return x.view(-1), x.t(), x[0], x[1:3, ::2], x.unsqueeze(0), x


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def returns_views_of_a_result(x):
    y = x + 1
    return y, y.view(2, 6), y[0], y.t()


@program((rand(4, 3), rand(4, 3, seed=2)), (rand(4, 3), rand(4, 3, seed=2)))
def writes_through_views_of_views(x, y):
    v = x.view(2, 6)[1].view(2, 3)
    v += y[:2]
    w = x.t()[0]
    w.clamp_(min=0)
    return v, w, x


SAME = rand(4, 3)


@program((SAME, SAME), (rand(4, 3), rand(4, 3, seed=1)), (SAME, SAME))
def one_tensor_as_two_arguments(x, y):
    x.add_(1)
    return y * 2, x is y


BASE = rand(4, 4)


@program((BASE, BASE[1]), (rand(4, 4, seed=3), rand(4, seed=4)), (BASE, BASE[1]))
def an_argument_and_its_row(x, row):
    row.zero_()
    return x.sum(0) + row


@program((BASE[:2], BASE[1:3]), (BASE[:2], BASE[2:]))
def arguments_that_overlap(a, b):
    a.mul_(2)
    b.add_(1)
    return a + b


@program((X,), (X,))
def slices_assigned(x):
    y = torch.zeros(4, 3)
    y[0] = x[0]
    y[1:3, :2] = x[1:3, :2] * 2
    y[..., -1] = 7
    y[[0, 2], 0] = x[[1, 3], 1]
    return y


@program((X,), (rand(4, 3, seed=2),))
def masked_assignment(x):
    y = x.clone()
    y[y < 0] = 0
    y[x > 0.5] *= 2
    z = torch.where(y == 0, -1, y)
    return y, z, y.masked_fill(y > 0, 3.0)


@program((X,), (X,))
def scatters_and_index_put(x):
    index = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 0, 0], [1, 1, 1]])
    y = torch.zeros(4, 3).scatter_(1, index, x)
    z = torch.zeros(4, 3).scatter_add(1, index, x)
    w = torch.zeros(4, 3).index_add_(0, torch.tensor([0, 0, 1, 3]), x)
    v = x.clone()
    v.index_put_((torch.tensor([0, 1]),), torch.tensor(9.0), accumulate=True)
    return y, z, w, v


@program((X, rand(4, 3, seed=3)), (X, rand(4, 3, seed=3)))
def out_arguments(x, y):
    out = torch.empty(4, 3)
    torch.add(x, y, out=out)
    torch.mul(out, 2, out=out)
    given = torch.zeros(4, 3)
    result = torch.sin(x, out=given)
    return out, result, result is given


@program((X, torch.zeros(4, 3)), (X, torch.zeros(4, 3)))
def out_is_an_argument(x, out):
    torch.exp(x, out=out)
    torch.matmul(x, x.t(), out=torch.empty(4, 4))
    return out + 1


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def writes_on_a_recorded_copy(x):
    y = x.clone()
    y[0] = y[1] * 2
    y.mul_(3)
    y[:, 1] += x[:, 0]
    return y


@program((rand(4, 3, grad=True),), (rand(4, 3, grad=True),), backward=True)
def views_on_the_tape(x):
    a, b = x.chunk(2)
    c = torch.cat([b, a]).view(-1)
    parts = c.split([5, 7])
    return parts[0] * 2, parts[1].reshape(7, 1).expand(7, 2), x.unbind(1)[1]


@program((rand(4, 3, grad=True),), (rand(4, 3, grad=True),))
def writes_a_leaf_is_refused(x):
    try:
        x.add_(1)
    except RuntimeError:
        return x * 2
    return x


@program((rand(4, 3, grad=True),), (rand(4, 3, grad=True),))
def writes_a_leaf_without_grad(x):
    with torch.no_grad():
        x.mul_(0.5)
        x[0] = 1
    return x * 2, x.requires_grad, x._version > 0


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def detached_shares_memory(x):
    d = x.detach()
    d.add_(1)
    e = x.data
    e.mul_(2)
    return x, d, e


@program((rand(6),), (rand(6, seed=1),))
def swaps_halves_in_place(x):
    a, b = x[:3], x[3:]
    a_copy = a.clone()
    a.copy_(b)
    b.copy_(a_copy)
    return x


@program((rand(3, 3),), (rand(3, 3, seed=1),))
def diagonal_and_triangles_written(x):
    x.diagonal().fill_(0)
    x.triu_(0)
    return x + x.t()


@program((X,), (X,))
def expands_and_broadcasts(x):
    row = x[0].expand(4, 3)
    col = x[:, :1].expand(-1, 3)
    return row + col, row.stride(0), col.is_contiguous(), torch.broadcast_to(x[0], (2, 3)), row.clone().is_contiguous()


@program((X,), (X,))
def permutes_and_contiguous(x):
    t = x.t()
    c = t.contiguous()
    return t.is_contiguous(), c.is_contiguous(), t.stride(), c.stride(), t.reshape(-1), c.view(-1), x.contiguous() is x


@program((rand(2, 3, 4),), (rand(2, 3, 4, seed=1),))
def indexing_of_all_kinds(x):
    i = torch.tensor([0, 1, 1])
    return (x[0, :, 1], x[..., None, 0], x[:, i], x[i, i, i], x[:, [True, False, True]], x[x > 0.5].sum(), x[1:, ..., ::2],
            x[None, 0, None], x[torch.tensor(1)], x[-1, -1])


@program((rand(4, 3), [rand(3), rand(3, seed=1)]), (rand(4, 3), [rand(3), rand(3, seed=1)]))
def writes_tensors_in_a_list(x, ts):
    for k, t in enumerate(ts):
        t.add_(x[k])
    ts[0], ts[1] = ts[1], ts[0]
    ts.append(ts[0] * 2)
    return x + ts[0]


@program((rand(4, 3), {"a": rand(3)}), (rand(4, 3), {"a": rand(3)}))
def writes_tensors_in_a_dict(x, d):
    d["a"] += 1
    d["b"] = d["a"] * x[0]
    return d["b"]


CACHE = torch.zeros(8, 3)


@program((X, 0), (X, 4), (X, 2), watch=lambda: CACHE)
def writes_a_global_cache(x, at):
    CACHE[at:at + 4] = x
    return CACHE[:at + 4].sum(0)


@program((rand(4, 3),), (rand(4, 3),))
def unsqueeze_in_place(x):
    y = x.clone()
    y.unsqueeze_(0)
    y.squeeze_()
    y.t_()
    return y, y.shape


@program((rand(4, 3),), (rand(4, 3),))
def resizes_a_result(x):
    y = x * 2
    z = torch.empty(0)
    z.resize_(2, 2).fill_(1)
    return y, z


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def fills_and_zeroes(x):
    y = torch.empty_like(x).fill_(2)
    z = torch.empty(3).zero_()
    w = x.new_ones(2, 2)
    v = x.new_full((2,), 3.5)
    return y, z, w, v, x.new_tensor([1, 2]), torch.full_like(x, 4)


@program((rand(2, 4),), (rand(2, 4, seed=1),))
def chunks_written(x):
    left, right = x.chunk(2, -1)
    left.sigmoid_()
    right.tanh_()
    return left * right, x


@program((rand(4, 3), True), (rand(4, 3), False), (rand(4, 3), True))
def view_or_copy(x, copies):
    y = x.clone() if copies else x[:]
    y.zero_()
    return x, y


@program((rand(4, 3),), (rand(4, 3),))
def augmented_assignment_keeps_the_object(x):
    before = x
    x += 1
    x -= x.mean()
    x = x * 2
    x /= 3
    return x, before


@program((rand(4, 3, grad=True) * 1,), (rand(4, 3, seed=1, grad=True) * 1,), backward=False)
def writes_a_recorded_argument(x):
    x.mul_(2)
    return x + 1, x.requires_grad


@program((rand(2, 3),), (rand(2, 3),))
def stacks_views_and_writes_after(x):
    s = torch.stack([x[0], x[1]])
    x.zero_()
    return s, x


@program((rand(5),), (rand(5),))
def cumulative_in_a_loop(x):
    out = torch.zeros(5)
    total = torch.tensor(0.0)
    for k in range(5):
        total = total + x[k]
        out[k] = total
    return out, total


@program((rand(4, 3),), (rand(4, 3),))
def set_data(x):
    y = x.clone()
    y.data = x * 3
    y.data.add_(1)
    return y


@program((torch.arange(6),), (torch.arange(6),))
def integer_writes(x):
    x += 3
    x[::2] //= 2
    x.bitwise_and_(7)
    return x % 4, x.float()


@program((rand(3, 4),), (rand(3, 4),))
def view_of_other_dtype(x):
    bits = x.view(torch.int32)
    return bits.shape, torch.view_as_complex(x.view(3, 2, 2)), (bits & 0).sum()
