"""Fingerprints: the hash of a module, the imports of a stage, and the checks before a stage runs."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from labbook.errors import LabbookError
from labbook.fingerprint import packages
from labbook.fingerprint.check import changed_packages, check_stage
from labbook.fingerprint.meaning import hash_bytes, hash_tree, parse
from labbook.fingerprint.packages import imported_versions, installed_versions
from labbook.fingerprint.record import HEADER, Fingerprint, compute, read
from labbook.fingerprint.sources import UNHASHED, Sources
from labbook.fingerprint.write import write_fingerprints
from labbook.stage import run

ROOT = Path(__file__).parent.parent

# Every construct of Python 3.11, by topic, with its hash, which must be the same on every Python version.
STATEMENTS = '''
"""A docstring."""
from __future__ import annotations
import os, sys as system
from . import sibling
from ..above.module import name as other, second
from package import *
counter: int = 0
declared: dict[str, list[int]]
(parenthesised): int = 1
first = second = third = None
counter += 1; counter -= 2; counter *= 3; counter @= 4; counter /= 5; counter %= 6; counter **= 7
counter <<= 1; counter >>= 2; counter |= 3; counter ^= 4; counter &= 5; counter //= 6
a, (b, *c) = [d, *e] = value
del first, third[0], second.attribute
for index, item in enumerate(items):
    if item: continue
    elif index > 3: break
    else: pass
else:
    print("done")
while True:
    break
else:
    ...
with open("a") as one, open("b") as (two, three), lock:
    pass
with (open("a") as one, lock):
    pass
try:
    risky()
except (KeyError, ValueError) as error:
    raise RuntimeError("text") from error
except Exception:
    raise
else:
    fine()
finally:
    close()
try:
    risky()
except* OSError as group:
    handle(group)
assert condition, "message"
assert other_condition
raise StopIteration(3)
'''
FUNCTIONS = '''
@decorator
@module.decorator(1, key=2)
def function(a, b: int = 1, /, c=2, *args: str, d, e: float = 3.0, **kwargs) -> list[int]:
    """A docstring."""
    global counter
    def inner():
        nonlocal a
        a = yield
        b = yield a
        return (yield from b)
    return inner
def bare(*, only): return
async def coroutine():
    await other()
    async for item in stream: print(item)
    async with session as one, two: pass
    return [x async for x in stream if await x]
@dataclass
class Empty: pass
class Derived(Base, Other, metaclass=Meta, *more, **keys):
    """A docstring."""
    field: int = 0
    def method(self): return super().method()
sort = lambda x, *y, z=1, **k: (x, y)
'''
EXPRESSIONS = r"""
numbers = 1, 1.0, True, False, 1j, 0x10, 1_000, 1e400, 1e-05, 0.1, 0b11, 99999999999999999999, -0.0, 0.0, -1
constants = None, ..., "text", 'it\'s', b"bytes\x00\xff", u"old", r"\raw", "é\u2028\ud800\N{BULLET}", "im" "plicit", b"a" b'b'
f = f"{a}" f"{b!r}" "c" f"{d:>{width}.{precision}f}" f"{e = }" f"{f!s:x}{{}}" f"" f"{g:}" f"only" f'{h["key"]!a}'
plain = f"only text" f""
spec = f"{x:%Y-%m-%d}{x:{a}}{x:{a}b{c}}{x:a{b}c}" f"{1 + 2}{(lambda: 3)()}"
boolean = a and b and not c or (d and e)
arithmetic = a + b - c * d @ e / f % g ** h << i >> j | k ^ l & m // n
unary = -a, +b, ~c, not d
compared = a < b <= c != d == e > f >= g is h is not i in j not in k
conditional = a if b else c
if (walrus := call(1, *args, key=2, **kwargs)): pass
collections = [1, *a], (2,), (), [], {}, {3, *b}, {4: 5, **c}
comprehensions = [x for x in a if x if y for z in x], {x for x in a}, {x: y for x, y in a}, (x for x in a)
subscripts = a[0], a[1:2], a[::3], a[1:2, ..., None], a[:], a[*b], a.b.c[d].e
"""
MATCHING = """
match subject, other:
    case 1 | -2 | 3 + 4j | "text" | module.CONSTANT: a
    case None: b
    case True: c
    case False: d
    case [x, *rest]: e
    case (y, *_): f
    case {"key": z, **others}: g
    case {}: h
    case Point(0, y=1): i
    case Point() as point if point.x: j
    case captured if captured: k
    case _: l
"""
SAMPLES = {
    "statements": (STATEMENTS, "b96ca7747b7342c5"),
    "functions": (FUNCTIONS, "8379199f3d078449"),
    "expressions": (EXPRESSIONS, "1746285ed26936c2"),
    "matching": (MATCHING, "f8f97b90eb8e9ec1"),
}
OPERATORS = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
# Base classes, entry points other than a module, and classes that are deprecated or newer than Python 3.11.
NOT_IN_311 = {
    *("AST", "Interactive", "Expression", "FunctionType", "TypeIgnore", "type_ignore", "AugLoad", "AugStore", "Param", "Suite"),
    *("slice", "Index", "ExtSlice", "Num", "Str", "Bytes", "NameConstant", "Ellipsis"),
    *("TypeAlias", "type_param", "TypeVar", "TypeVarTuple", "ParamSpec", "TemplateStr", "Interpolation"),
}


def hash_of(source: str) -> str:
    return hash_tree(parse(dedent(source).encode(), "sample"))


def write_tree(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else dedent(content).encode())
    return folder


def install(folder: Path, name: str, version: str, *, record: str = "", top_level: str | None = None) -> None:
    """Write the metadata of an installed package into `folder`, as pip does."""
    metadata = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9\n", "RECORD": record}
    if top_level is not None:
        metadata["top_level.txt"] = top_level
    write_tree(folder / f"{name.replace('-', '_')}-{version}.dist-info", metadata)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that provides third-party packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


# The hash of a module's meaning


@pytest.mark.parametrize("name", SAMPLES)
def test_hash_is_the_same_on_every_python(name: str) -> None:
    source, expected = SAMPLES[name]
    assert hash_of(source) == expected


def test_samples_use_every_construct() -> None:
    used = {type(node) for source, _ in SAMPLES.values() for node in ast.walk(parse(source.encode(), "sample"))}
    kinds = {kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.AST)}
    kinds = {kind for kind in kinds if kind.__name__ not in NOT_IN_311}
    assert len(used) > 80
    assert used == {kind for kind in kinds if not any(other.__base__ is kind for other in kinds)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = 1", "# comment\n\n\nx = 1  # comment\n"),
        ("x = 1", '"""Docstring."""\nx = 1'),
        ("x = 1\ny = 2", "x = 1; y = 2"),
        ("x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
        ("x = 1", "\ufeffx = 1"),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("x = 'a'", 'x = """a"""'),
        ("x = 'ab'", "x = 'a' 'b'"),
        ("x = 'ab'", "x = (\n    'a'\n    'b'\n)"),
        ("x = u'a'", "x = 'a'"),
        ("x = '\\n'", "x = '\\x0a'"),
        ("x = f'{a}b'", "x = f'{a}' 'b'"),
        ("x = f'{a}'", "x = f'{  a  }'"),
        ("x = f'{a:}'", "x = f'{a}'"),
        ("x = 'a'", "x = f'a'"),
        ("x = 1000", "x = 1_000"),
        ("x = 16", "x = 0x10"),
        ("x = 1e3", "x = 1000.0"),
        ("x = (1)", "x = 1"),
        ("x = 1, 2", "x = (1, 2)"),
        ("x = a + (b * c)", "x = a + b * c"),
        ("if a:\n  b\nelse:\n  if c:\n    d", "if a:\n  b\nelif c:\n  d"),
        ("with a, b: c", "with (a, b):\n    c"),
        ("def f(): return 1", 'def f():\n    """Docstring."""\n    return 1'),
        ("async def f(): return 1", 'async def f():\n    """Docstring."""\n\n    return 1'),
        ("class A: x = 1", 'class A:\n    """Docstring."""\n    x = 1\n    """Of an attribute."""'),
        ("def f(): pass", "def f(): ..."),
        ("def f(): pass", "def f(): 'Docstring.'"),
        ("raise ValueError('a')", "raise ValueError(f'b {x}', 1, key=2)"),
        ("raise errors.DataError('a') from e", "raise errors.DataError('b') from e"),
        ("assert x, 'a'", "assert x, f'b {x}'"),
        ("assert x, 'a'", "assert x"),
    ],
)
def test_hash_ignores_differences_without_effect(first: str, second: str) -> None:
    assert hash_of(first) == hash_of(second)


@pytest.mark.parametrize("package", ["models", "training", "numpy_nn", "fingerprint"])
def test_hash_ignores_reformatting(package: str) -> None:
    paths = sorted((ROOT / "src/labbook" / package).glob("*.py"))
    assert len(paths) >= 5
    for path in paths:
        tree = parse(path.read_bytes(), str(path))
        assert hash_of(ast.unparse(tree)) == hash_tree(tree), path


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = True"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = '1'"),
        ("x = 0", "x = False"),
        ("x = 0", "x = None"),
        ("x = 0.0", "x = -0.0"),
        ("x = 0.1", "x = 0.10000000000000002"),
        ("x = 1.0", "x = 1j"),
        ("x = 'a'", "x = b'a'"),
        ("x = 'a'", "x = 'A'"),
        ("x = 'a  b'", "x = 'a b'"),
        ("x = ''", "x = None"),
        ("x = ...", "x = None"),
        ("x = 'int:0x1'", "x = 1"),
        ("x = 'a,b'", "x = 'a', 'b'"),
        ("x = a", "x = b"),
        ("x = a", "x = 'a'"),
        ("x = a", "y = a"),
        ("x = a", "x: int = a"),
        ("x: int = a", "x: float = a"),
        ("x: int = a", "(x): int = a"),
        ("x = a + b", "x = a - b"),
        ("x = a + b", "x = b + a"),
        ("x = (a + b) + c", "x = a + (b + c)"),
        ("x = a < b", "x = a <= b"),
        ("x = a and b", "x = a or b"),
        ("x = not a", "x = a"),
        ("x = (1, 2)", "x = [1, 2]"),
        ("x = {1}", "x = [1]"),
        ("x = {}", "x = ()"),
        ("x = {**a}", "x = {a: a}"),
        ("x = a, ", "x = a"),
        ("x = a[1:]", "x = a[:1]"),
        ("x = a[::1]", "x = a[:1]"),
        ("x = a[:]", "x = a[()]"),
        ("x = [y for y in z]", "x = (y for y in z)"),
        ("x = [y for y in z if y if w]", "x = [y for y in z if y and w]"),
        ("x = f'{a}'", "x = '{a}'"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = f'{a!s}'", "x = f'{a!r}'"),
        ("x = f'{a}'", "x = f'{a:>3}'"),
        ("x = f'{a:3}'", "x = f'{a:{3}}'"),
        ("x = f'{a}b'", "x = f'b{a}'"),
        ("x = f'{a=}'", "x = f'{a = }'"),
        ("f(a, b)", "f(b, a)"),
        ("f(a, b=1)", "f(a, c=1)"),
        ("f(a)", "f(*a)"),
        ("f(*a)", "f(**a)"),
        ("f()", "f"),
        ("a.b", "a.c"),
        ("x = 1\ny = 2", "y = 2\nx = 1"),
        ("x = 1", "x = 1\nx = 1"),
        ("x += 1", "x = x + 1"),
        ("x = y = 1", "x = 1"),
        ("del x", "x"),
        ("import a", "import b"),
        ("import a", "import a as b"),
        ("from a import b", "import a.b"),
        ("from a import b", "from .a import b"),
        ("from . import b", "from .. import b"),
        ("from a import b", "from a import *"),
        ("def f(): return 1", "def g(): return 1"),
        ("def f(): return 1", "def f(): return"),
        ("def f(): return 1", "async def f(): return 1"),
        ("def f(): return 1", "def f(): yield 1"),
        ("def f(): return 1", "@d\ndef f(): return 1"),
        ("@d\n@e\ndef f(): pass", "@e\n@d\ndef f(): pass"),
        ("@d\ndef f(): pass", "@d()\ndef f(): pass"),
        ("def f(a): pass", "def f(b): pass"),
        ("def f(a): pass", "def f(a=None): pass"),
        ("def f(a=1): pass", "def f(a=2): pass"),
        ("def f(a, b=1): pass", "def f(a=1, *, b): pass"),
        ("def f(a): pass", "def f(a, /): pass"),
        ("def f(a): pass", "def f(*, a): pass"),
        ("def f(*, a, b=1): pass", "def f(*, a=1, b): pass"),
        ("def f(*a): pass", "def f(**a): pass"),
        ("def f(a): pass", "def f(a: int): pass"),
        ("def f(a): pass", "def f(a) -> int: pass"),
        ("def f():\n  global x\n  x = 1", "def f():\n  x = 1"),
        ("class A: pass", "class B: pass"),
        ("class A: pass", "class A(B): pass"),
        ("class A(B): pass", "class A(metaclass=B): pass"),
        ("class A: x = 1", "class A: x: int = 1"),
        ("if a: b", "while a: b"),
        ("if a: b", "if a: b\nelse: c"),
        ("if a: pass\nelse: b", "if a: b"),
        ("for x in y: a\nb", "for x in y: a\nelse: b"),
        ("for x in y: break", "for x in y: continue"),
        ("with a: b", "with a as c: b"),
        ("with a, b: c", "with b, a: c"),
        ("try: a\nexcept B: c", "try: a\nexcept D: c"),
        ("try: a\nexcept B: c", "try: a\nexcept B as e: c"),
        ("try: a\nexcept B: c", "try: a\nexcept* B: c"),
        ("try: a\nexcept B: c\nelse: d", "try: a\nexcept B: c\nfinally: d"),
        ("raise ValueError('a')", "raise KeyError('a')"),
        ("raise ValueError('a')", "raise"),
        ("raise ValueError('a')", "raise ValueError('a') from None"),
        ("raise StopIteration(1)", "raise StopIteration(2)"),
        ("raise Done(result)", "raise Done(other)"),
        ("raise make('a')", "raise make('b')"),
        ("assert x", "assert y"),
        ("match x:\n  case None: a", "match x:\n  case False: a"),
        ("match x:\n  case False: a", "match x:\n  case 0: a"),
        ("match x:\n  case a: b", "match x:\n  case _: b"),
        ("match x:\n  case [a, *_]: b", "match x:\n  case [a, *c]: b"),
        ("match x:\n  case [a, b]: c", "match x:\n  case a, b if b: c"),
        ("match x:\n  case {'a': b}: c", "match x:\n  case {'a': b, **d}: c"),
        ("match x:\n  case A(b=c): d", "match x:\n  case A(e=c): d"),
        ("match x:\n  case A(c): d", "match x:\n  case A(b=c): d"),
        ("lambda x: x", "lambda y: y"),
    ],
)
def test_hash_detects_differences_with_an_effect(first: str, second: str) -> None:
    assert hash_of(first) != hash_of(second)


class RemoveIgnored(ast.NodeTransformer):
    """Remove exactly the nodes that the hash ignores."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call) and node.exc.func.id == "RuntimeError":
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        if isinstance(node.format_spec, ast.JoinedStr) and not any(
            getattr(child, "value", "") for child in node.format_spec.values
        ):
            node.format_spec = None
        return self.generic_visit(node)


def other_values(node: ast.AST, name: str, value: Any) -> list[Any]:
    """Return other values that a field of a node could have."""
    if name in {"ctx", "kind", "type_comment"}:
        return []
    if isinstance(node, ast.Constant | ast.MatchSingleton) and name == "value":
        constants = (None, True, False, 0, 1, 2, 0.5, -0.0, 2j, "", "x", b"", b"x", ...)
        return [other for other in constants if repr(other) != repr(value)]
    if isinstance(value, list):
        shortened = [value[:index] + value[index + 1 :] for index in range(len(value))]
        swapped = [[*value[:index], value[index + 1], value[index], *value[index + 2 :]] for index in range(len(value) - 1)]
        return shortened + [other for other in swapped if dump_all(other) != dump_all(value)]
    if isinstance(value, OPERATORS):
        return [kind() for kind in type(value).__base__.__subclasses__() if kind is not type(value)]
    if isinstance(value, ast.AST):
        return [None]
    if isinstance(value, str):
        return [f"{value}_"]
    return [value + 1] if isinstance(value, int) else []


def dump_all(items: list[Any]) -> list[str]:
    return [ast.dump(item) if isinstance(item, ast.AST) else repr(item) for item in items]


@pytest.mark.parametrize("name", SAMPLES)
def test_hash_detects_a_change_of_any_field(name: str) -> None:
    source, expected = SAMPLES[name]
    tree = RemoveIgnored().visit(parse(source.encode(), "sample"))
    assert hash_tree(tree) == expected
    count = 0
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            for other in other_values(node, field, value):
                setattr(node, field, other)
                assert hash_tree(tree) != expected, f"{field} of {ast.dump(node)}"
                setattr(node, field, value)
                count += 1
    assert count > 150
    assert hash_tree(tree) == expected


def test_hash_is_16_hexadecimal_digits_of_sha256() -> None:
    assert hash_bytes(b"") == "e3b0c44298fc1c14"
    assert re.fullmatch("[0-9a-f]{16}", hash_of("x = 1"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x = 1\ny = (\n", "src/module.py, line 2: not valid Python: '(' was never closed."),
        (b"x = '\xff'", "src/module.py"),
        (b"x\0", "src/module.py"),
    ],
)
def test_invalid_source_is_named(source: bytes, message: str) -> None:
    with pytest.raises(LabbookError, match=re.escape(message)):
        parse(source, "src/module.py")


def test_source_with_an_invalid_escape_raises_no_warning() -> None:
    assert hash_of(r"x = '\d'") == hash_of(r"x = '\\d'")  # pytest turns warnings into errors


def test_docstrings_are_only_used_as_help_texts() -> None:
    """Otherwise the hash must not ignore them."""
    paths = [*(ROOT / "src/labbook").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    count = 0
    for path in paths:
        tree = ast.parse(path.read_bytes())
        help_texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "description"}
        for node in ast.walk(tree):
            name = getattr(node, "id", getattr(node, "attr", ""))
            assert name not in {"getdoc", "getsource", "cleandoc"}, path
            if name == "__doc__":
                count += 1
                assert id(node) in help_texts, path
    assert count > 5


# Imports of a stage

SMALL = {
    "stages/_here.py": "import sys",
    "stages/train.py": """
        import _here
        import json
        import code
        from labbook.training.engine import train
        from labbook import tools
    """,
    "stages/fingerprint.py": "import labbook.unused",
    "stages/report.py": "import labbook.report.site, jinja2",
    "src/labbook/__init__.py": '"""A package."""',
    "src/labbook/tools.py": "import yaml",
    "src/labbook/unused.py": "import pandas",
    "src/labbook/only_types.py": "",
    "src/labbook/otherwise.py": "",
    "src/labbook/fingerprint/check.py": "import labbook.late\nimport rich",
    "src/labbook/fingerprints.py": "",
    "src/labbook/training/__init__.py": "from . import losses as _losses",
    "src/labbook/training/losses.py": "import torch.nn.functional as F",
    "src/labbook/training/engine.py": """
        from typing import TYPE_CHECKING
        import typing
        from labbook.fingerprint.check import check_stage
        import labbook.fingerprints
        from labbook.plain.folder import thing
        from ..late import *
        if TYPE_CHECKING:
            import labbook.only_types
            import only_types
        else:
            import labbook.otherwise
        if typing.TYPE_CHECKING:
            from labbook import only_types
        def function():
            try:
                import numpy as np
            except ImportError:
                with open("x"):
                    from scipy import special
            else:
                match np:
                    case 1:
                        import PIL.Image
            finally:
                while True:
                    import captum
    """,
    "src/labbook/plain/folder/__init__.py": "from .thing import Thing",
    "src/labbook/plain/folder/thing.py": "Thing = 1",
    "src/labbook/late.py": "import labbook.late\nimport labbook.training.engine",
    "src/labbook/report/__init__.py": "",
    "src/labbook/report/site.py": "import labbook.report.parts.page",
    "src/labbook/report/parts/page.py": "",
    "src/labbook/report/parts/part.txt": "text",
    "src/labbook/report/templates/index.html": "<html>\n",
    "src/labbook/report/static/vendor/script.js": b"\0\r\n",
    "src/labbook/report/style.mplstyle": "a: b\n",
    "src/labbook/report/.hidden": "",
    "src/labbook/report/style.mplstyle~": "",
    "src/labbook/report/__pycache__/site.cpython-311.pyc": b"\0",
    "src/labbook/notes.md": "",
    "src/labbook/models/cnn.py": "from labbook.models import layers\nfrom labbook.models.layers import Conv",
    "src/labbook/models/layers.py": "from torch import nn",
    "src/beside/__init__.py": "import beside.inner",
    "src/beside/inner.py": "",
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small project."""
    return write_tree(tmp_path / "project", SMALL)


def test_closure_follows_imports(small: Path) -> None:
    closure = Sources(small).closure("train")
    assert sorted(closure.code) == [
        "labbook",
        "labbook.fingerprint.check",
        "labbook.fingerprints",
        "labbook.late",
        "labbook.otherwise",
        "labbook.plain.folder",
        "labbook.plain.folder.thing",
        "labbook.tools",
        "labbook.training",
        "labbook.training.engine",
        "labbook.training.losses",
        "labbook/notes.md",
        "stages/_here.py",
        "stages/train.py",
    ]
    tops = {name.partition(".")[0] for name in closure.imported}
    assert tops == {"PIL", "captum", "code", "json", "numpy", "rich", "scipy", "sys", "torch", "typing", "yaml"}


def test_modules_that_cannot_change_an_output_are_listed_without_a_hash(small: Path) -> None:
    """Their imports are listed as well; changing them changes no fingerprint."""
    before = Sources(small).closure("train")
    assert [name for name, digest in before.code.items() if digest == "unhashed"] == ["labbook.fingerprint.check"]
    write_tree(small, {"src/labbook/fingerprint/check.py": "import labbook.late\nimport rich\nx = 1"})
    assert Sources(small).closure("train") == before
    assert Sources(small).digest("labbook.fingerprint.check") == "unhashed"
    write_tree(small, {"src/labbook/fingerprints.py": "x = 1"})
    assert Sources(small).closure("train") != before


def test_unhashed_modules_exist_and_are_few() -> None:
    """Each unhashed module needs a reason, and a removed module must not stay in the list."""
    sources = Sources(ROOT)
    assert all(sources.digest(name) == "unhashed" for name in UNHASHED)
    assert sorted(UNHASHED) == [
        "labbook.config.messages",
        "labbook.fingerprint",
        "labbook.training.launch",
        "labbook.training.progress",
        "labbook.training.timing",
    ]


def test_closure_contains_modules_imported_by_name(small: Path) -> None:
    sources = Sources(small)
    without, closure = sources.closure("train"), sources.closure("train", ["labbook.models.cnn"])
    assert sorted(set(closure.code) - set(without.code)) == ["labbook.models.cnn", "labbook.models.layers"]
    assert set(without.code) < set(closure.code)
    assert sources.closure("train") == without


def test_closure_contains_the_data_files_of_its_packages(small: Path) -> None:
    code = Sources(small).closure("report").code
    assert sorted(name for name in code if "/" in name) == [
        "labbook/notes.md",
        "labbook/report/parts/part.txt",
        "labbook/report/static/vendor/script.js",
        "labbook/report/style.mplstyle",
        "labbook/report/templates/index.html",
        "stages/report.py",
    ]
    assert code["labbook/report/templates/index.html"] == hash_bytes(b"<html>\n")
    assert code["labbook/report/static/vendor/script.js"] == hash_bytes(b"\0\r\n")


def test_line_endings_of_text_files_do_not_count(small: Path) -> None:
    before = Sources(small).closure("report")
    write_tree(small, {"src/labbook/report/templates/index.html": b"<html>\r\n"})
    assert Sources(small).closure("report") == before


def test_closure_follows_other_packages_of_the_project(small: Path) -> None:
    write_tree(small, {"stages/report.py": "import beside"})
    closure = Sources(small).closure("report")
    assert sorted(closure.code) == ["beside", "beside.inner", "stages/report.py"]
    assert not closure.imported


def test_digest_equals_that_in_the_closure(small: Path) -> None:
    code = Sources(small).closure("report").code
    assert len(code) == 10
    assert {name: Sources(small).digest(name) for name in code} == code
    for missing in ("labbook.gone", "stages/gone.py", "labbook/gone.txt"):
        assert Sources(small).digest(missing) is None


@pytest.mark.parametrize(
    ("script", "modules", "message"),
    [
        (
            "trian",
            [],
            "trian.py: not found, but its fingerprint was requested. Known scripts: fingerprint, report, train.",
        ),
        ("train", ["labbook.models.cn"], "labbook.models.cn: no such module in "),
    ],
)
def test_missing_code_is_named(small: Path, script: str, modules: list[str], message: str) -> None:
    with pytest.raises(LabbookError, match=re.escape(message)):
        Sources(small).closure(script, modules)


def test_invalid_code_is_named(small: Path) -> None:
    write_tree(small, {"src/labbook/tools.py": "x = 1\ny = \n"})
    with pytest.raises(LabbookError, match=r"src/labbook/tools.py, line 2: not valid Python"):
        Sources(small).closure("train")
    assert Sources(small).closure("report")


# Packages


@pytest.fixture(scope="module")
def providers() -> Mapping[str, list[str]]:
    """The distributions that provide each import, as the standard library finds them."""
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize("top", ["PIL", "attr", "captum", "dvc", "jinja2", "numpy", "ruamel", "sklearn", "torch", "yaml"])
def test_package_of_an_import_is_that_of_importlib_metadata(top: str, providers: Mapping[str, list[str]]) -> None:
    versions = {re.sub(r"[-_.]+", "-", name).lower(): importlib.metadata.version(name) for name in providers[top]}
    assert imported_versions([f"{top}.module", top]) == {name: version.split("+")[0] for name, version in versions.items()}


def test_standard_library_and_ignored_packages_are_omitted() -> None:
    assert imported_versions(["os.path", "__future__", "json", "rich.progress", "filelock"]) == {}
    assert sorted(packages.IGNORED) == ["filelock", "rich"]
    assert imported_versions(["not_there.at_all"]) == {"not-there": "absent"}


def test_every_form_of_metadata_is_supported(site: Path) -> None:
    install(site, "plain", "1.2.3+cpu", record="plain/__init__.py,sha256=x,1\n")
    install(site, "Some.Name", "2.0rc1", record="other/__init__.py,,\nsingle.py,,\nfast.cpython-311-x86_64-linux-gnu.so,,\n")
    install(site, "attr", "0.1", record="something_else.py,,\n")
    install(site, "attrs", "26.1.0", record="attr/__init__.py,,\n")
    install(site, "shared-one", "1", top_level="shared\n")
    install(site, "shared-two", "2", top_level="more\nshared\n")
    install(site, "editable", "3", record="_editable.pth,,\n")
    write_tree(site, {"old-4.0-py3.11.egg-info/PKG-INFO": "Name: old\nVersion: 4.0\n", "broken-5.dist-info/RECORD": ""})
    assert imported_versions(["plain", "other", "single", "fast", "attr", "shared", "editable", "old", "broken"]) == {
        "plain": "1.2.3",
        "some-name": "2.0rc1",
        "attrs": "26.1.0",
        "shared-one": "1",
        "shared-two": "2",
        "editable": "3",
        "old": "4.0",
        "broken": "absent",
    }
    assert installed_versions(["plain", "gone"]) == {"plain": "1.2.3", "gone": "absent"}


def test_first_installation_on_the_path_takes_precedence(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "plain", "1")
    install(tmp_path / "later", "plain", "2")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere"), str(site), str(tmp_path / "later")])
    assert installed_versions(["plain"]) == {"plain": "1"}


# Files

EXAMPLE = Fingerprint(
    {"labbook.b": "2" * 16, "labbook": "1" * 16, "labbook/a b.txt": "3" * 16},
    {"torch": "2.14.1", "numpy": "2.4.6"},
    {"model.name": '"cnn"', "model.channels": "[8, 16]", "epochs": "3"},
)
EXAMPLE_TEXT = (
    f"{HEADER}\nlabbook {'1' * 16}\nlabbook.b {'2' * 16}\nlabbook/a b.txt {'3' * 16}\n\nnumpy 2.4.6\ntorch 2.14.1\n\n"
    'epochs 3\nmodel.channels [8, 16]\nmodel.name "cnn"\n'
)


def test_fingerprint_is_written_and_parsed_as_text() -> None:
    assert EXAMPLE.to_text() == EXAMPLE_TEXT
    assert Fingerprint.from_text(EXAMPLE_TEXT) == EXAMPLE
    empty = Fingerprint({"labbook": "1" * 16}, {})
    assert Fingerprint.from_text(empty.to_text()) == empty


@pytest.mark.parametrize("text", ["", "no fingerprint", EXAMPLE_TEXT.replace("\n\n", "\n"), EXAMPLE_TEXT + "one\n"])
def test_damaged_fingerprint_is_named(tmp_path: Path, text: str) -> None:
    write_tree(tmp_path, {"train.txt": text.encode()})
    with pytest.raises(LabbookError, match=r"train.txt: not a fingerprint .*dvc repro --force --single-item code"):
        read(tmp_path / "train.txt")


def test_missing_fingerprint_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "train.txt") is None


def test_a_fingerprint_of_an_older_format_is_none(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train.txt": b"# What this stage runs.\nlabbook 1\n\ntorch 2\n"})
    assert read(tmp_path / "train.txt") is None


def test_changes_are_listed() -> None:
    newer = Fingerprint({"labbook": "1" * 16, "labbook.b": "9" * 16, "labbook.c": "4" * 16}, {"torch": "2.15.0", "scipy": "1"})
    newer.settings.update({"model.name": '"mlp"', "epochs": "3", "seed": "1"})
    assert EXAMPLE.changes_to(newer) == [
        "code labbook.b changed",
        "code labbook.c is new",
        "code labbook/a b.txt is no longer used",
        "package numpy is no longer used",
        "package scipy is new",
        "package torch: 2.14.1 → 2.15.0",
        "setting model.channels is no longer used",
        'setting model.name: "cnn" → "mlp"',
        "setting seed is new",
    ]
    assert EXAMPLE.changes_to(EXAMPLE) == []


CHOSEN = {"train/a": ("labbook.models.cnn",), "train/b": (), "report": ()}
SETTINGS = {"train/a": {"epochs": "3"}}


def read_fingerprints(project: Path) -> dict[str, str]:
    folder = project / "code"
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def test_all_fingerprints_are_written(small: Path) -> None:
    write_fingerprints(CHOSEN, SETTINGS, small)
    sources = Sources(small)
    assert read_fingerprints(small) == {
        "train/a.txt": compute(sources, "train", ["labbook.models.cnn"], {"epochs": "3"}).to_text(),
        "train/b.txt": compute(sources, "train", [], {}).to_text(),
        "report.txt": compute(sources, "report", [], {}).to_text(),
    }
    assert len(set(read_fingerprints(small).values())) == 3


def test_obsolete_files_are_removed(small: Path) -> None:
    write_fingerprints({**CHOSEN, "report/old": ()}, {}, small)
    write_tree(small, {"code/deep/er/file": "", "code/train/b.txt": "old"})
    write_fingerprints(CHOSEN, SETTINGS, small)
    assert sorted(read_fingerprints(small)) == ["report.txt", "train/a.txt", "train/b.txt"]
    assert not (small / "code/report").exists()
    assert not (small / "code/deep").exists()


def test_nothing_is_written_if_one_cannot_be_computed(small: Path) -> None:
    write_fingerprints(CHOSEN, SETTINGS, small)
    before = read_fingerprints(small)
    write_tree(small, {"src/labbook/late.py": "x = 2", "src/labbook/report/site.py": "("})
    with pytest.raises(LabbookError, match=r"report/site.py, line 1"):
        write_fingerprints(CHOSEN, SETTINGS, small)
    assert read_fingerprints(small) == before


def test_each_file_is_read_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse_and_count(source: bytes, name: str) -> ast.Module:
        parsed.append(name)
        return parse(source, name)

    monkeypatch.setattr("labbook.fingerprint.sources.parse", parse_and_count)
    write_fingerprints({f"train/{number}": ("labbook.models.cnn",) for number in range(20)} | CHOSEN, SETTINGS, small)
    assert len(parsed) == len(set(parsed)) > 10


def test_comment_changes_no_fingerprint_and_code_changes_those_that_use_it(small: Path) -> None:
    write_fingerprints(CHOSEN, SETTINGS, small)
    before = read_fingerprints(small)
    models = small / "src/labbook/models/layers.py"
    models.write_text(f'"""New."""\n\n{models.read_text()}  # new\n')
    write_fingerprints(CHOSEN, SETTINGS, small)
    assert read_fingerprints(small) == before
    models.write_text(f"{models.read_text()}\nx = 1")
    write_fingerprints(CHOSEN, SETTINGS, small)
    assert [name for name, text in read_fingerprints(small).items() if text != before[name]] == ["train/a.txt"]


# Checks


@pytest.fixture
def running_stage(small: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project, in which `stages/train.py a` is running and `code` has run."""
    for name in ("torch", "numpy", "scipy", "captum"):
        install(site, name, "1.0", top_level=name)
    write_fingerprints(CHOSEN, SETTINGS, small)
    monkeypatch.chdir(small)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "a", "--seed", "1"])
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return small


@pytest.fixture
def other_versions(running_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A different version of torch is installed, and numpy is not installed."""
    for name, version in (("torch", "2.0"), ("scipy", "1.0"), ("captum", "1.0")):
        install(tmp_path / "other", name, version, top_level=name)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "other")])


def test_unchanged_stage_passes(running_stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_stage()
    monkeypatch.setenv("DVC_STAGE", "train@a")
    check_stage()
    assert changed_packages() == {}


@pytest.mark.usefixtures("other_versions")
@pytest.mark.parametrize("arguments", [["a"], ["b", "--seed", "1"]])
def test_changed_versions_are_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/train.py", *arguments])
    with pytest.raises(LabbookError) as caught:
        check_stage()
    assert str(caught.value) == (
        f"code/train/{arguments[0]}.txt records other versions than those installed:\n"
        "  numpy: 1.0 recorded, absent installed\n"
        "  torch: 1.0 recorded, 2.0 installed\n"
        "To use the installed versions, run `dvc repro --force --single-item code`; every stage that uses one of these "
        "packages runs again. To go back to the versions of this project, run `pip install -r requirements.lock`."
    )
    assert changed_packages() == {"numpy": ("1.0", "absent"), "torch": ("1.0", "2.0")}


@pytest.mark.usefixtures("other_versions")
@pytest.mark.parametrize(
    "arguments", [["stages/report.py"], ["stages/gone.py", "a"], ["stages/train.py"], ["stages/train.py", "c"]]
)
def test_stage_without_a_fingerprint_or_without_these_packages_passes(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    check_stage()


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("src/labbook/models/cnn.py", "x = 2", "labbook.models.cnn"),
        ("stages/_here.py", "x = 2", "stages/_here.py"),
        ("src/labbook/notes.md", "other", "labbook/notes.md"),
        ("src/labbook/tools.py", None, "labbook.tools"),
    ],
)
def test_edited_code_is_refused_if_dvc_started_the_stage(
    running_stage: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str | None, named: str
) -> None:
    if content is None:
        (running_stage / file).unlink()
    else:
        write_tree(running_stage, {file: content})
    check_stage()
    monkeypatch.setenv("DVC_STAGE", "train@a")
    with pytest.raises(LabbookError) as caught:
        check_stage()
    assert str(caught.value) == f"edited after the stage `code` ran: {named}. Run `dvc repro` to start again with this code."


def test_added_comment_passes(running_stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@a")
    (running_stage / "src/labbook/models/cnn.py").write_text(f"# New.\n{SMALL['src/labbook/models/cnn.py']}")
    write_tree(running_stage, {"src/labbook/unused.py": "x = 2"})
    check_stage()


@pytest.mark.usefixtures("other_versions")
def test_refused_stage_does_not_start() -> None:
    called: list[int] = []
    with pytest.raises(SystemExit, match=r"^error: code/train/a.txt records other versions"):
        run(lambda: called.append(1))
    assert called == []


@pytest.mark.usefixtures("running_stage")
def test_unchanged_stage_starts() -> None:
    called: list[int] = []
    run(lambda: called.append(1))
    assert called == [1]


# Scripts


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
    """A copy of the stage `code` and of the modules that it imports."""
    for name in (
        "stages/_here.py",
        "stages/fingerprint.py",
        *(f"src/labbook/{name}.py" for name in ("__init__", "errors", "io", "stage")),
    ):
        write_tree(tmp_path, {name: (ROOT / name).read_bytes()})
    for path in (ROOT / "src/labbook/fingerprint").glob("*.py"):
        write_tree(tmp_path, {f"src/labbook/fingerprint/{path.name}": path.read_bytes()})
    chosen = """
        import sys

        def chosen_modules():
            slow = {"torch", "numpy", "pydantic", "importlib.metadata"} & set(sys.modules)
            assert not slow, slow
            return {"fingerprint": (), "train/a": ("labbook.models",)}

        def settings_of_stages():
            return {"train/a": {"optimizer.lr": "0.1"}}
    """
    files = {"src/labbook/config/chosen.py": chosen, "src/labbook/models.py": "import torch", "stages/train.py": "import _here"}
    return write_tree(tmp_path, files)


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=dict(os.environ), check=False)


def test_code_stage_runs_the_code_of_its_own_folder(project_copy: Path) -> None:
    finished = start(project_copy, "stages/fingerprint.py")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert sorted(read_fingerprints(project_copy)) == ["fingerprint.txt", "train/a.txt"]
    torch = importlib.metadata.version("torch").split("+")[0]
    assert read(project_copy / "code/train/a.txt") == Fingerprint(
        {
            name: Sources(project_copy).digest(name)
            for name in ("labbook", "labbook.models", "stages/_here.py", "stages/train.py")
        },
        {"torch": torch},
        {"optimizer.lr": "0.1"},
    )


def test_syntax_error_is_reported_in_one_line(project_copy: Path) -> None:
    write_tree(project_copy, {"src/labbook/models.py": "import ("})
    finished = start(project_copy, "stages/fingerprint.py")
    assert finished.returncode == 1
    assert (
        finished.stderr == "error: src/labbook/models.py, line 1: not valid Python: invalid syntax. Correct it and run again.\n"
    )
    assert not (project_copy / "code").exists()


def test_scripts_without_a_source_folder_use_the_installed_package(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"stages/_here.py": (ROOT / "stages/_here.py").read_bytes(), "stages/train.py": "import _here, labbook"}
    )
    assert start(tmp_path, "stages/train.py").returncode == 0
