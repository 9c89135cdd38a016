"""Exceptions that are raised, caught, chained and finally handled while traced."""

from ..given import F, nn, program, rand

X = rand(4, 3)


class ConfigError(Exception):
    def __init__(self, key, hint=None):
        super().__init__(f"bad {key}")
        self.key, self.hint = key, hint


class DeepError(ConfigError):
    pass


def lookup(table, key):
    try:
        return table[key]
    except KeyError as error:
        raise ConfigError(key, hint=sorted(table)) from error


@program((X, "relu"), (X, "relu"), (X, "swish"))
def raise_from(x, name):
    x = x + 1
    return lookup({"relu": F.relu, "gelu": F.gelu}, name)(x)


@program((X,), (X,))
def custom_exception_is_caught(x):
    try:
        lookup({"a": 1}, "b")
    except ConfigError as error:
        return x * len(error.hint), error.key, str(error), type(error.__cause__).__name__


@program((X,), (X,))
def most_specific_handler(x):
    path = []
    for error in (DeepError("k"), ConfigError("j"), ValueError("v")):
        try:
            raise error
        except DeepError:
            path.append("deep")
        except ConfigError:
            path.append("config")
        except (ValueError, TypeError):
            path.append("value")
        else:
            path.append("none")
        finally:
            path.append("finally")
    return x * len(path), path


@program((X,), (X,))
def try_else_finally(x):
    steps = []
    try:
        y = x.reshape(2, 6)
    except RuntimeError:
        steps.append("except")
    else:
        steps.append("else")
        y = y + 1
    finally:
        steps.append("finally")
    return y, steps


@program((X,), (X,))
def builtin_exceptions(x):
    caught = []
    for fn in (lambda: {}["k"], lambda: [][1], lambda: None.attr, lambda: int("x"), lambda: 1 // 0, lambda: undefined,  # noqa: F821
               lambda: "a" + 1, lambda: (1, 2)[5], lambda: next(iter([])), lambda: [].index(3), lambda: {1, 2}.remove(9),
               lambda: float("abc"), lambda: len(5)):
        try:
            fn()
        except Exception as error:
            caught.append(type(error).__name__)
    return x + len(caught), caught


@program((X,), (X,))
def reraise(x):
    log = []

    def inner():
        try:
            raise ValueError("first")
        except ValueError:
            log.append("seen")
            raise
    try:
        inner()
    except ValueError as error:
        log.append(error.args)
    return x * len(log), log


@program((X,), (X,))
def exception_in_a_handler(x):
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise TypeError("b")
    except TypeError as error:
        return x + 1, type(error.__context__).__name__, error.__cause__, error.__suppress_context__


@program((X,), (X,))
def raise_from_none(x):
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise TypeError("b") from None
    except TypeError as error:
        return x - 1, error.__cause__, error.__suppress_context__


@program((X,), (X,))
def finally_overrides_return(x):
    def fn():
        try:
            return 1
        finally:
            return 2

    def swallow():
        for _ in range(3):
            try:
                raise ValueError
            finally:
                break
        return "swallowed"
    return x * fn(), swallow()


@program((X, 3), (X, 3))
def retry_loop(x, attempts):
    tries = 0
    while True:
        try:
            tries += 1
            if tries < attempts:
                raise RuntimeError("again")
            return x * tries
        except RuntimeError:
            continue


@program((X,), (X,))
def early_exit_by_exception(x):
    class Found(Exception):
        pass
    try:
        for k in range(10):
            for j in range(10):
                if k * j == 12:
                    raise Found(k, j)
    except Found as found:
        k, j = found.args
    return x * k + j


class NotFound(LookupError):
    """Raised without arguments."""


@program((X,), (X,))
def exception_classes_and_instances(x):
    texts = []
    for make in (lambda: NotFound, lambda: NotFound("gone", 3), lambda: ValueError(), lambda: StopIteration(5)):
        try:
            raise make()
        except LookupError as error:
            texts.append((str(error), error.args, isinstance(error, NotFound)))
        except (ValueError, StopIteration) as error:
            texts.append(repr(error))
    return x + 1, texts


def validated(x, dim):
    if not isinstance(dim, int):
        raise TypeError(f"dim must be an int, not {type(dim).__name__}")
    if not -x.ndim <= dim < x.ndim:
        raise IndexError(f"dim {dim} is out of range")
    return dim % x.ndim


@program((X, -1), (X, -1), (X, 0))
def validation_passes(x, dim):
    return x.sum(validated(x, dim))


@program((X, 5), (X, 5))
def validation_fails(x, dim):
    y = x * 2
    return y.sum(validated(x, dim))


@program((X, "no"), (X, "no"), (X, 1))
def fallback_after_validation(x, dim):
    try:
        dim = validated(x, dim)
    except TypeError:
        dim = 0
    except IndexError as error:
        return x, str(error)
    return x.mean(dim)


class Attempts(nn.Module):
    def __init__(self):
        super().__init__()
        self.failures = 0

    def fast(self, x):
        raise NotImplementedError("fast path")

    def forward(self, x):
        try:
            return self.fast(x)
        except NotImplementedError:
            self.failures += 1
            return x.exp()


ATTEMPTS = Attempts()


@program((X,), (X,), watch=lambda: ATTEMPTS.failures > 0)
def fallback_in_a_module(x):
    return ATTEMPTS(x)


@program((X,), (X,))
def shape_error_is_caught(x):
    try:
        y = x @ x
    except RuntimeError:
        y = x @ x.t()
    return y


@program((X,), (X,))
def exception_variable_is_deleted(x):
    try:
        raise ValueError("v")
    except ValueError as e:
        text = str(e)
    try:
        e
    except NameError:
        text += "!"
    return x * 2, text


@program((X, []), (X, []))
def side_effects_before_a_raise(x, log):
    log.append("before")
    y = x + 1
    log.append(y)
    raise ConfigError("late")


@program((X,), (X,))
def error_stored_and_raised_later(x):
    errors = []
    for v in ("1", "two", "3"):
        try:
            x = x + int(v)
        except ValueError as error:
            errors.append(error)
    if len(errors) > 1:
        raise errors[0]
    return x, [type(e).__name__ for e in errors]


def cleanup(log, fail):
    try:
        log.append("work")
        if fail:
            raise ValueError("inside")
        return "ok"
    except ValueError:
        log.append("handled")
        return "failed"
    else:
        log.append("never")
    finally:
        log.append("done")


@program((X, True), (X, True), (X, False))
def nested_function_with_all_clauses(x, fail):
    log = []
    state = cleanup(log, fail)
    return x * len(log), state, log


@program((X, {"a": 1}), (X, {"a": 1}), (X, {"b": 2}))
def ask_forgiveness(x, d):
    try:
        n = d["a"]
    except KeyError:
        n = -1
    try:
        scale = d.scale
    except AttributeError:
        scale = 2
    return x * n * scale


@program((X,), (X,))
def notes_and_attributes_on_errors(x):
    error = ValueError("v")
    error.code = 42
    try:
        raise error
    except ValueError as caught:
        same = caught is error
        return x * caught.code, same


@program((X,), (X,))
def generator_raises_to_its_consumer(x):
    def rows():
        yield x[0]
        raise LookupError("no more")
    got = []
    try:
        for row in rows():
            got.append(row)
    except LookupError as error:
        got.append(str(error))
    return got


@program((X,), (X,))
def assertion_with_a_message(x):
    try:
        assert x.shape[0] == 0, ("rows", x.shape[0])
    except AssertionError as error:
        return x + 1, error.args
