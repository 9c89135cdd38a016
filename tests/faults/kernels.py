"""Faults of generated code, of lowering, of fusion and of the memory plan."""
from faults.harness import cpp_text, fault, numpy_text, square, two, values, whole, wrapped

import flambeau
import flambeau.nn.functional as F
from flambeau.ir import loops
from flambeau.ir.op import get_op
from flambeau.passes import lower, memory

KERNEL = ("kernel", "fusion-schedule")


# --------------------------------------------------------------------------- NumPy code

@fault("exp", stage=KERNEL)
def exp_is_expm1(patch):
    """An op is spelled as another."""
    numpy_text(patch, r"xp\.exp\(", "xp.expm1(")
    return lambda x: (x * 2).exp() + 1, [square]


@fault("sub", stage=KERNEL)
def sub_swaps_operands(patch):
    """Operands in the wrong order."""
    numpy_text(patch, r"xp\.sub\((\w+), (\w+)\)", r"xp.sub(\2, \1)")
    return lambda x, y: (x - y).tanh(), [two]


@fault("sum", stage=KERNEL)
def sum_is_max(patch):
    """A reduction combines wrongly."""
    numpy_text(patch, "numpy_combine\\('sum'", "numpy_combine('max'")
    return lambda x: (x.abs() + 1).sum(1) * 2, [square]


@fault("amax", stage=KERNEL)
def max_is_min(patch):
    """A part of a composite is wrong: softmax takes the smallest."""
    numpy_text(patch, "numpy_combine\\('max'", "numpy_combine('min'")
    return lambda x: (x * 90).amax(1, keepdim=True) + x, [square]


@fault("sum", stage=KERNEL)
def sum_in_eight_bits(patch):
    """The accumulator is too narrow."""
    numpy_text(patch, r"(numpy_combine\('sum'.*)np\.int64\)", r"\1np.int8)")
    return lambda x: x.sum(0) + 1, [lambda: (whole(5, 5),)]


@fault("mul", stage=KERNEL)
def constant_is_off(patch):
    """A constant is written wrongly."""
    numpy_text(patch, r"np\.float32\(2\.0\)", "np.float32(2.5)")
    return lambda x: (x * 2).sin() + 3, [square]


@fault("where", stage=KERNEL)
def where_takes_the_other(patch):
    """The branches of a selection are exchanged."""
    numpy_text(patch, r"xp\.where\((\w+), (\w+), (\w+)\)", r"xp.where(\1, \3, \2)")
    return lambda x, y: flambeau.where(x > 0, x, y).exp(), [two]


@fault("flip", stage=KERNEL)
def index_off_by_one(patch):
    """An index expression is off by one."""
    numpy_text(patch, r"\* -1\) \+ 4\)", "* -1) + 3)")
    return lambda x: x.flip(0) * 3, [square]


@fault("cat", stage=KERNEL)
def boundary_off_by_one(patch):
    """The seam of a concatenation is off by one."""
    numpy_text(patch, r"xp\.lt\((\w+), np\.int64\(5\)\)", r"xp.lt(\1, np.int64(4))")
    return lambda x: flambeau.cat([x, x * 2], 1).exp(), [square]


@fault("argmax", stage=KERNEL)
def argmax_is_argmin(patch):
    """A ranking looks for the wrong end."""
    numpy_text(patch, "'argmax'", "'argmin'")
    return lambda x: x.sin().argmax(1) * 2, [square]


@fault("add", stage=KERNEL)
def broadcast_along_the_wrong_axis(patch):
    """A row is broadcast as a column."""
    numpy_text(patch, r"\[:\]\[None, :\]", "[:][:, None]")
    return lambda x, y: (x + y).exp(), [two]


@fault("exp", stage=KERNEL)
def last_column_is_left_out(patch):
    """The tail of a loop is not run."""
    numpy_text(patch, r"(    )(exp)\[:, :\]\[\.\.\.\] = (\w+)", r"\1\2[:, :-1][...] = \3[:, :-1]; exp[:, -1:] = 0")
    return lambda x: x.exp().cos(), [square]


@fault("mm", stage=KERNEL)
def factors_exchanged(patch):
    """The factors of a matrix product are exchanged."""
    numpy_text(patch, r"xp\.mm\((\w+), (\w+)\)", r"xp.mm(\2, \1)")
    return lambda x: (x * 2) @ x.exp() + 1, [square]


@fault("lt", stage=KERNEL)
def comparison_with_equality(patch):
    """A strict comparison is not strict."""
    numpy_text(patch, r"xp\.lt\(", "xp.le(")
    return lambda x: (x * 2 < 40) | (x > 90), [lambda: (whole(5, 5, high=40),)]


@fault("cast", stage=KERNEL)
def cast_rounds(patch):
    """A cast to integers rounds instead of cutting off."""
    numpy_text(patch, r"xp\.numpy_cast\((\w+), np\.int32\)", r"xp.numpy_cast(np.rint(\1), np.int32)")
    return lambda x: (x * 3).to(flambeau.int32) + 1, [square]


@fault("mul", "transpose", "t", stage=KERNEL)
def strides_are_lost(patch):
    """A transposed input is read in its own order."""
    numpy_text(patch, r"\[:, :\]\.transpose\(1, 0\)", "[:, :]")
    return lambda x: x.t() * 2 + x, [square]


@fault("gather", stage=KERNEL)
def gather_along_the_other_axis(patch):
    """Indices are applied to the wrong dimension."""
    numpy_text(patch, r"x\[(_i\d+), (_t\d+)\]", r"x[\2, \1]")
    return lambda x: x.gather(1, (x > 0).long()) * 2, [square]


# --------------------------------------------------------------------------- lowering

@fault("tril", stage=KERNEL)
def tril_lowers_as_triu(patch):
    """One op has the loop of another."""
    patch.setattr(get_op("tril"), "lower", get_op("triu").lower)
    return lambda x: x.tril().exp(), [square]


@fault("roll", stage=KERNEL)
def roll_lowers_the_wrong_way(patch):
    """A shift goes the wrong way."""
    numpy_text(patch, r"\+ 4\) % 5", "+ 1) % 5")
    return lambda x: x.roll(1, 0) * 2, [square]


@fault("maximum", stage=KERNEL)
def maximum_lowers_as_minimum(patch):
    """A call in a loop names another function."""
    numpy_text(patch, r"xp\.maximum\(", "xp.minimum(")
    return lambda x, y: flambeau.maximum(x, y) * 2, [two]


@fault("prod", stage=KERNEL)
def product_lowers_as_sum(patch):
    """A reduction is lowered with the wrong combination, and so the wrong identity."""
    patch.setattr(get_op("prod"), "reduce", "sum")
    return lambda x: (x + 3).prod(1) * 2, [square]


@fault("exp", "select", "slice", "sin", stage=KERNEL)
def views_look_one_row_on(patch):
    """The index arithmetic of a view is shifted."""
    def shifted(read, self, index, *rest, **named):
        if self.at is not None and index and isinstance(self.shape[0], int) and self.shape[0] > 1:
            index = (loops.ix.mod(loops.ix.add(index[0], 1), self.shape[0]), *index[1:])
        return read(self, index, *rest, **named)
    wrapped(patch, lower._Value, "read", shifted)
    return lambda x: x[1:4].exp() + 1, [square]


# --------------------------------------------------------------------------- C++ and the plan

@fault("exp", "mul", stage=KERNEL, backend="cpp")
def vector_tail_is_not_run(patch):
    """What is left over behind the last whole vector is not computed."""
    cpp_text(patch, r"\n *if \(i0 < end\) step\(.*", "")
    return lambda x: (x * 2).exp(), [lambda: (values(1, 31),)]


@fault("sum", stage=KERNEL, backend="cpp")
def accumulator_starts_at_one(patch):
    """A sum starts with the identity of a product."""
    cpp_text(patch, r"(f32 sum_acc_v = )0\.f", r"\g<1>1.f")
    return lambda x: x.sin().sum(1), [lambda: (values(3, 20),)]


@fault("amax", stage=KERNEL, backend="cpp")
def row_stride_is_off(patch):
    """Rows are read with the stride of another shape."""
    cpp_text(patch, r"(\+ i0 \* )20", r"\g<1>19")
    return lambda x: (x * 2).amax(1), [lambda: (values(3, 20),)]


@fault("mm", "add", "exp", stage=KERNEL, backend="cpp")
def buffer_is_used_again_too_early(patch):
    """The memory plan gives a live buffer away."""
    def early(deaths, self):
        found = [*deaths(self), [], []]
        return [[name for name in found[n + 2] if self.written[name] <= n] for n in range(len(found) - 2)]
    wrapped(patch, memory._Planner, "_deaths", early)

    def f(x):
        a = x @ x
        b = a @ x
        c = b @ x
        return (c + a).exp()
    return f, [lambda: (values(16, 16) * 0.1,)]


@fault("add", "t", "transpose", "cumsum", "mm", stage=KERNEL, backend="cpp")
def in_place_across_a_transpose(patch):
    """A result is written over an operand that is still read."""
    patch.setattr(memory, "in_place", lambda step, old, new: True)

    def f(x):
        a = x @ x
        return (a.t() + a) @ x
    return f, [lambda: (values(16, 16),)]


@fault("sum", stage=KERNEL, backend="cpp")
def last_row_is_not_run(patch):
    """A kernel runs over too few rows."""
    cpp_text(patch, r"i0 < 6;", "i0 < 5;")
    return lambda x, y: (x @ y).add(1).exp().sum(1), [lambda: (values(6, 4), values(4, 6))]


@fault("exp", "sin", "add", stage=KERNEL)
def a_value_is_not_stored(patch):
    """Fusion takes a value for one that nobody reads outside the kernel."""
    numpy_text(patch, r"(    exp)\[:, :\]\[\.\.\.\] = \w+\n", r"\1[...] = 0\n")
    return lambda x: (x.exp(), x.exp().sum(0)), [square]


@fault("softmax", "sum", "div", "exp", "amax", "sub", stage=KERNEL)
def rows_are_normalized_as_columns(patch):
    """A reduction inside a fused group runs along the wrong axis."""
    numpy_text(patch, r"(numpy_combine\('sum', )(\w+)", r"\1\2.T")
    return lambda x: F.softmax(x * 2, 1), [square]

