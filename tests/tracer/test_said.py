"""Errors that Python and the operators raise in traced code have the type and the words that they have eagerly.

Each of these lines fails; the program that it stands in catches the error and returns what it says.
"""
from __future__ import annotations

import collections
import warnings

import pytest
from tracer.support import compile

import flambeau as fl

CLASSES = '''
import enum, dataclasses, functools, itertools, math, copy, operator, random, re, json
class C:
    z = 1
    def __init__(self, a, b=2): self.a = a
    def m(self, q): return q
    @property
    def p(self): return self._p
    @staticmethod
    def s(a): return a
    @classmethod
    def c(cls, a): return a
class D(C):
    __slots__ = ("w",)
class S:
    __slots__ = ("u",)
class E(enum.Enum):
    A = 1
@dataclasses.dataclass
class DC:
    a: int
    b: int = 2
@dataclasses.dataclass(frozen=True)
class FZ:
    a: int
P = collections.namedtuple("P", "a b")
class Abs:
    def __add__(self, o): return NotImplemented
    def __bool__(self): return 3
    def __len__(self): return -1
    def __iter__(self): return 3
    def __index__(self): return 'a'
    def __contains__(self, x): raise KeyError('c')
def fn(a, b=1, *, c, d=2): return a
def fn2(a, b): return a
def fn3(a, /, b): return a
def rec(n): return rec(n + 1)
def gen():
    yield 1
    raise ValueError('in gen')
class CM:
    def __enter__(self): return self
    def __exit__(self, *a): raise RuntimeError('exit')
net = fl.nn.Linear(3, 2)
'''

LINES = {
    "containers": r"""
    L.index('no') ;; L.index(5,1) ;; (1,2).index(3) ;; [1,x].index('a') ;; L.remove('q') ;; {1,2}.remove(3) ;;
    collections.deque([1]).index(2) ;; L.pop(9) ;; [].pop() ;; {}.popitem() ;; {1:2}['k'] ;; L[10] ;; L['a'] ;; (1,2)[5] ;;
    {}.pop('a') ;; set().pop() ;; L.insert() ;; L.foo ;; range(3).index(7) ;; L.index(x) ;; [x].index(None) ;; L+1 ;;
    {}[x] ;; dict([1]) ;; a,b=L ;; a,b=(1,) ;; a,b=1,2,3 ;; [1]*'a' ;; L.sort(key=3) ;; {1}|[2] ;; {}|[] ;;
    setattr(1,'a',2) ;; collections.OrderedDict().popitem() ;; list(3) ;; tuple(2) ;; range('a') ;; range(1,2,0) ;; {[]:1} ;;
    {[]} ;; L.extend(3) ;; L.append() ;; list(itertools.islice([1],-1)) ;; [1]<['a'] ;; (1,)<1 ;; {}<{} ;; {1}<1 ;; [1]() ;;
    list(1) ;; set([[]]) ;; dict(a=1,**{'a':2}) ;; {**1} ;; [*1] ;; a,b=1 ;; a,*b=() ;; (a,b),c=[1,2] ;; L.zz() ;;
    L.sort() ;; L.index() ;; L.pop('a') ;; L[1:2]=3 ;; L[::0] ;; L[0:2:0] ;; del L[9] ;; L[9]=1 ;; L*=None ;; L+=1 ;;
    [].remove(1) ;; {}.pop() ;; {}.update(1) ;; {}.update([(1,)]) ;; {}.fromkeys(1) ;; {1:2}.popitem(1) ;; set().remove(1) ;;
    set().add([]) ;; frozenset().add(1) ;; {1}.update(1) ;; {1}&[1] ;; {1}|None ;; collections.deque().pop() ;;
    collections.deque([],maxlen=-1) ;; collections.deque([1])[4] ;; collections.Counter([1]).nope ;;
    collections.defaultdict(list)['a'].x ;; collections.defaultdict(3) ;; collections.defaultdict()['q'] ;;
    collections.OrderedDict([(1,2)]).move_to_end(9) ;; collections.ChainMap({})['a'] ;; list(zip([1],[2,3],strict=True)) ;;
    list(map(1,[1])) ;; list(filter(1,[1])) ;; setattr(L,'q',1) ;; slice() ;; range() ;; range(1.5) ;; range(3)[5] ;;
    range(3)['a']
    """,
    "objects": r"""
    collections.namedtuple('P','a b')(1) ;; C() ;; C(1,2,3) ;; C(1).m() ;; C(1).m(1,2) ;; C(1).p ;; C(1).s() ;; C.c() ;;
    C(1).nope ;; C.nope ;; C(1).p = 3 ;; C(1)+1 ;; 1+C(1) ;; C(1)<C(2) ;; C(1)[0] ;; C(1)() ;; len(C(1)) ;; iter(C(1)) ;;
    C(1)[0]=1 ;; del C(1)[0] ;; del C(1).q ;; S().u ;; S().v ;; S().v=1 ;; E.B ;; E(5) ;; E['Q'] ;; DC() ;; DC(1,2,3) ;;
    FZ(1).a=2 ;; P(1) ;; P(1,2).a=3 ;; P(1,2)[5] ;; P(1,2)._replace(z=1) ;; Abs()+1 ;; bool(Abs()) ;; len(Abs()) ;;
    list(Abs()) ;; [1,2][Abs()] ;; 3 in Abs() ;; with CM(): pass ;; with C(1): pass ;; raise C(1) ;; issubclass(C,3) ;;
    C.__init__() ;; C.m(1) ;; C.m()
    """,
    "calls": r"""
    (lambda a:a)() ;; (lambda a:a)(1,2) ;; (lambda a:a)(b=1) ;; fn() ;; fn(1) ;; fn(1,2,3,c=1) ;; fn(1,c=1,e=2) ;;
    fn(1,a=2,c=3) ;; fn2(1) ;; fn2(1,2,3) ;; fn3(a=1,b=2) ;; fn3(1) ;; fn2(*[1,2,3]) ;; fn2(**{'a':1,'z':2}) ;;
    list(gen()) ;; for q in gen(): pass ;; raise ValueError ;; raise ValueError(1,2) ;; raise KeyError('a') ;; raise 3 ;;
    assert False, 'msg' ;; functools.reduce(lambda a,b:a+b,[])
    """,
    "tensors": r"""
    x.foo ;; len(x.sum()) ;; x['a'] ;; x[9] ;; x.view(7,7) ;; x@x ;; x.reshape(5) ;; x+t.long()[0:0] ;; fl.cat([x,x[0]]) ;;
    x.sum().item().foo ;; t[x] ;; x[[5,6]] ;; int(x) ;; float(x) ;; bool(x) ;; x.item() ;; x.tolist().index(3) ;;
    x.size(9) ;; x.shape[9] ;; x.transpose(0,9) ;; x.squeeze(9) ;; x.sum(9) ;; fl.zeros(2)[3] ;; fl.stack([]) ;;
    fl.cat([]) ;; x.to('foo') ;; x.type('a') ;; assert x.sum()<0, 'data' ;; f'{1:q}' ;; f'{x:q}' ;; x() ;; x.nope ;;
    x.sum(foo=1) ;; x.view('a') ;; x+'a' ;; x+None ;; x+[1] ;; x<'a' ;; fl.relu() ;; fl.relu(1) ;; fl.matmul(x,x) ;;
    fl.zeros('a') ;; fl.ones(2).nope() ;; fl.nope ;; fl.nn.Linear() ;; fl.nn.Linear(3) ;; net() ;; net(x.t()) ;; net.nope ;;
    net(1) ;; net.weight=3 ;; fl.nn.functional.relu('a') ;; x.to(3.5) ;; x.reshape(-1,-1) ;; x.expand(5,5) ;; x.permute(0) ;;
    x.permute(0,0) ;; x.chunk(0) ;; x.split(0) ;; x.index_select(0,x) ;; fl.stack([x,t]) ;; fl.cat([x,1]) ;;
    fl.einsum('ij,jk',x,x) ;; fl.where(x,1,2) ;; x[0,0,0] ;; x[None,5] ;; x[C(1)] ;; x.tolist()[7] ;; t.backward() ;;
    x.sum().backward() ;; x.data.foo ;; x.grad.sum() ;; fl.tensor('a') ;; fl.tensor([1,'a']) ;; fl.tensor([[1],[1,2]]) ;;
    fl.arange() ;; fl.arange('a') ;; fl.randn('a') ;; fl.randint(5,3,(2,)) ;; fl.full((2,)) ;; fl.eye(-1) ;;
    fl.linspace(0,1,-1) ;; x.type_as(3) ;; x.sum(5) ;; x.mean(dtype=3) ;; t.long().mean() ;; x.softmax() ;; x.softmax(9) ;;
    x.max(9) ;; x.argmax(9) ;; x.topk(9) ;; x.sort(9) ;; x.gather(0,t) ;; x.scatter(0,t,1) ;; x.masked_fill(x,1) ;;
    x.unsqueeze(9) ;; x.squeeze('a') ;; x.flatten(5) ;; x.repeat(2) ;; x.narrow(0,5,5) ;; x.select(0,9) ;; x.unbind(9) ;;
    x.add_(fl.ones(5)) ;; x.copy_(fl.ones(5)) ;; x[0]=fl.ones(7) ;; x[9]=1 ;; x[0:1]='a' ;;
    fl.nn.functional.cross_entropy(x,t) ;; fl.nn.functional.conv2d(x,x) ;; fl.nn.functional.dropout(x,2) ;;
    fl.nn.functional.linear(x,t[None]) ;; fl.nn.functional.embedding(x,t) ;; fl.nn.functional.nope ;;
    fl.nn.functional.pad(x,(1,)) ;; fl.nn.functional.interpolate(x)
    """,
    "other": r"""
    'abc'.index('z') ;; next(iter([])) ;; int('z') ;; None.a ;; b'a'.index(b'z') ;; 'a'+1 ;; len(3) ;; iter(3) ;; max([]) ;;
    sorted([1,'a']) ;; float('q') ;; chr(-1) ;; divmod(1,0) ;; 1//0 ;; 1.0/0 ;; 1%0 ;; 2**'a' ;; '%d'%'a' ;; '{}'.format() ;;
    '{x}'.format() ;; getattr(x,'zz') ;; isinstance(1,2) ;; issubclass(1,int) ;; object().q ;; print(1,foo=2) ;; zip(1) ;;
    abs('a') ;; round('a') ;; sum(['a']) ;; hash([]) ;; ''.join([1]) ;; 'a'.split(1) ;; math.sqrt(-1) ;; math.log(0) ;;
    math.factorial(-1) ;; math.gcd('a') ;; operator.itemgetter(3)([1]) ;; operator.attrgetter('q')(1) ;; json.loads('{') ;;
    re.compile('(') ;; random.choice([]) ;; 'abc'[9] ;; 'abc'['a'] ;; 'a'.foo ;; '%s %s'%(1,) ;; '{:d}'.format('a') ;;
    'a'<1 ;; None+1 ;; None[0] ;; None() ;; 3() ;; 'a'() ;; int('1.5') ;; int(None) ;; float(None) ;; int([]) ;; str(1,2) ;;
    next(3) ;; enumerate(1) ;; reversed(1) ;; sorted(1) ;; sorted([1],key=1) ;; min() ;; min(1) ;; min([],key=len) ;;
    sum(1) ;; sum([[1]]) ;; any(1) ;; pow(2,-1,0) ;; pow(0,-1) ;; round(1,'a') ;; divmod(1,'a') ;; ord('ab') ;; chr('a') ;;
    bin(1.5) ;; hex('a') ;; hash({}) ;; id() ;; type() ;; type(1,2) ;; super().x ;; super() ;; getattr(1) ;; getattr(1,2) ;;
    delattr(L,'q') ;; hasattr(1) ;; hasattr(1,2) ;; isinstance(1) ;; isinstance(1,'a') ;; callable() ;; vars(1) ;;
    dir(1,2) ;; globals(1) ;; print(sep=1) ;; object(1) ;; bytes('a') ;; b'a'[3] ;; 1<None ;; not_defined
    """,
}


def said(line: str) -> object:
    """The program that reports the error of this line."""
    source = f"""{CLASSES}
def program(L, x, t):
    y = x * 2
    try:
        {line}
    except Exception as error:
        return type(error).__name__, str(error), len(error.args), y.sum().tolist()
    return "nothing raised"
"""
    space = {"fl": fl, "collections": collections}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(__builtins__["compile"](source, "<said>", "exec"), space)
    return space["program"]


@pytest.mark.parametrize("group", LINES)
@pytest.mark.filterwarnings("error:.* (runs|ran) eagerly")
def test_errors_say_what_they_say_eagerly(group):
    different = {}
    for line in filter(None, map(str.strip, LINES[group].replace("\n", " ").split(";;"))):
        program = said(line)
        wanted = program([1, 2, "s"], fl.ones(2, 3), fl.ones(2))
        found = compile(program)([1, 2, "s"], fl.ones(2, 3), fl.ones(2))
        assert wanted != "nothing raised", line
        if found != wanted:
            different[line] = (wanted, found)
    assert not different
