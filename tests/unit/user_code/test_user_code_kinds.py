"""Whatever Python lets a class or function be made of has a fingerprint, travels, and does there what it does here."""

import pickle
import threading
from typing import Any

import pytest

from neulite_sim.errors import NeuliteError
from neulite_sim.training.carrying import packed, unpacked
from neulite_sim.user_code.fingerprint import NotTrackedError, fingerprint

HEAD = """
import abc, collections, dataclasses, enum, functools, types, typing, weakref
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
"""
KINDS = {
    "dataclass": "@dataclasses.dataclass\nclass C:\n  a: int = {}\ndef f(): return C().a",
    "factory": "@dataclasses.dataclass\nclass C:\n  a: list = dataclasses.field(default_factory=lambda: [{}], "
    "metadata={{'unit': 's'}})\ndef f(): return C().a[0]",
    "metadata": "@dataclasses.dataclass\nclass C:\n  a: int = dataclasses.field(default=0, metadata={{'k': {}}})\n"
    "def f(): return dataclasses.fields(C)[0].metadata['k']",
    "frozen slots": "@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)\nclass C:\n  a: int = {}\n"
    "def f(): return C().a",
    "instance": "@dataclasses.dataclass\nclass C:\n  a: int\nc = C({})\ndef f(): return c.a",
    "cached property": "class C:\n  @functools.cached_property\n  def a(self): return {}\ndef f(): return C().a",
    "property": "class C:\n  @property\n  def a(self): return {}\ndef f(): return C().a",
    "class method": "class C:\n  @classmethod\n  def a(cls): return {}\ndef f(): return C.a()",
    "enum": "class C(enum.Enum):\n  A = {}\ndef f(): return C.A.value",
    "named tuple": "class C(NamedTuple):\n  a: int = {}\ndef f(): return C().a",
    "typed dict": "class C(TypedDict):\n  a: int\nc: C = dict(a={})\ndef f(): return c['a']",
    "slots": "class C:\n  __slots__ = ('a',)\nc = C()\nc.a = {}\ndef f(): return c.a",
    "abstract": "class B(abc.ABC):\n  @abc.abstractmethod\n  def a(self): ...\nclass C(B):\n  def a(self): return {}\n"
    "def f(): return C().a()",
    "generic": "T = TypeVar('T')\nclass C(Generic[T]):\n  a: T | None = {}\ndef f(): return C[int]().a",
    "dispatched": "@functools.singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return {}\n"
    "def f(): return g(1)",
    "dispatched method": "class C:\n  @functools.singledispatchmethod\n  def g(self, x): return 0\n  @g.register\n"
    "  def _(self, x: int): return {}\ndef f(): return C().g(1)",
    "partial method": "class C:\n  def g(self, x): return x\n  a = functools.partialmethod(g, {})\n"
    "def f(): return C().a()",
    "descriptor": "class D:\n  def __set_name__(self, owner, name): self.name = name\n"
    "  def __get__(self, one, kind): return {}\nclass C:\n  a = D()\ndef f(): return C().a",
    "metaclass": "class M(type):\n  def a(cls): return {}\nclass C(metaclass=M): pass\ndef f(): return C.a()",
    "read-only mapping": "k = types.MappingProxyType(dict(a={}))\ndef f(): return k['a']",
    "view": "k = dict(a={}).values()\ndef f(): return list(k)[0]",
    "weak dictionary": "class C:\n  known = weakref.WeakKeyDictionary()\nC.known[C] = 1\ndef f(): return len(C.known) * {}",
    "cached": "@functools.lru_cache\ndef g(): return {}\ndef f(): return g()",
}


def made(source: str, number: int) -> Any:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(HEAD + source.format(number), "<prompt>", "exec", dont_inherit=True), space)
    return space["f"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_told_from_another_and_travels(kind: str) -> None:
    function = made(KINDS[kind], 3)
    found = fingerprint(function).sha256
    assert fingerprint(made(KINDS[kind], 3)).sha256 == found
    assert fingerprint(made(KINDS[kind], 4)).sha256 != found
    there = unpacked(packed(function, ()))
    assert there() == function() == 3
    assert fingerprint(there).sha256 == fingerprint(function).sha256 == found


def test_a_lock_of_a_class_is_still_refused_with_its_place() -> None:
    function = made("import threading\nclass C:\n  lock = threading.Lock()\ndef f(): return C.lock", 0)
    with pytest.raises(NotTrackedError, match=r"holds a lock \(C\.lock\)"):
        fingerprint(function)
    with pytest.raises(NeuliteError, match=r"cannot be sent to the processes of the runs: TypeError: cannot pickle"):
        packed(function, ())


def test_pickles_of_the_program_itself_stay_as_they_are() -> None:
    packed(made(KINDS["cached property"], 3), ())
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(threading.Lock())
