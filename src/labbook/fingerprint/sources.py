"""Find the modules and data files that a stage script may run, by following its imports without running any of them."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from labbook.errors import LabbookError
from labbook.fingerprint.meaning import hash_bytes, hash_tree, parse

__all__ = ["Closure", "Sources", "is_unhashed"]

# Modules and packages that cannot change what a stage writes. A fingerprint lists them by name, without a hash of what they do.
UNHASHED = (
    "labbook.fingerprint",  # decides whether a stage runs; when the way of hashing changes, every hash changes with it
    "labbook.config.messages",  # the texts of errors, which end a stage
    "labbook.training.launch",  # starts the processes of a training, which compare their number with the settings
    "labbook.training.progress",  # prints to the terminal
    "labbook.training.timing",  # writes side files that are not outputs of a stage
)
NO_HASH = "unhashed"

SCRIPTS = "stages"
NOT_DATA = {".py", ".pyc", ".pyi", ".orig", ".rej", ".swp"}


@dataclass(frozen=True)
class Closure:
    """What a stage may run.

    Attributes:
        code: each script, module and data file, with the hash of its meaning or content; `unhashed` if it cannot change what
            the stage writes. Scripts and data files are named by their path below the project or `src`, modules by their
            dotted name.
        imported: the dotted names that this code imports from elsewhere, such as `torch.nn`.
    """

    code: dict[str, str]
    imported: frozenset[str]


def is_unhashed(module: str) -> bool:
    """Return whether a module, by its dotted name, cannot change what a stage writes."""
    return f"{module}.".startswith(tuple(f"{name}." for name in UNHASHED))


@dataclass(frozen=True)
class _File:
    """One Python file: `name` as the fingerprint lists it, `imports` as dotted names."""

    name: str
    path: Path
    digest: str
    imports: frozenset[str]


class Sources:
    """The scripts in `stages` and the packages in `src` of one project; each file is read once.

    Args:
        root: the folder of the project.
    """

    def __init__(self, root: Path = Path()) -> None:
        self._root = root
        self._files: dict[Path, _File] = {}
        self._needed: dict[Path, tuple[list[Path], frozenset[str]]] = {}
        self._data: dict[Path, dict[str, str]] = {}

    def closure(self, script: str, parts: Iterable[str] = ()) -> Closure:
        """Follow the imports of `stages/<script>.py` and of the modules `parts`, which it imports by name when it runs.

        Raises:
            LabbookError: a script or module is missing or is not valid Python.
        """
        waiting = [self._script(script), *(path for part in parts for path in self._part(part))]
        reached: set[Path] = set()
        imported: set[str] = set()
        while waiting:
            path = waiting.pop()
            if path not in reached:
                reached.add(path)
                own, others = self._needs(path)
                waiting += own
                imported |= others
        code = {self._read(path).name: self._read(path).digest for path in reached}
        for folder in {path.parent for path in reached if not path.is_relative_to(self._scripts)}:
            code |= self._data_files(folder)
        return Closure(code, frozenset(imported))

    def digest(self, name: str) -> str | None:
        """Return the current hash of what a fingerprint lists as `name`, or `None` if it no longer exists."""
        if name.startswith(f"{SCRIPTS}/"):
            path = self._root / name
            return self._read(path).digest if path.is_file() else None
        if "/" in name:
            path = self._source / name
            return _hash_data(path) if path.is_file() else None
        found = self._find(name)
        return self._read(found).digest if found else None

    @cached_property
    def _scripts(self) -> Path:
        return self._root / SCRIPTS

    @cached_property
    def _source(self) -> Path:
        return self._root / "src"

    def _script(self, name: str) -> Path:
        path = self._scripts / f"{name}.py"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in self._scripts.glob("[a-z]*.py"))) or "none"
            raise LabbookError(f"{path}: not found, but its fingerprint was requested. Known scripts: {known}.")
        return path

    def _part(self, name: str) -> list[Path]:
        if self._find(name) is None:
            raise LabbookError(f"{name}: no such module in {self._source}, but a stage imports it by name. Check params.yaml.")
        return self._with_parents(name)

    def _find(self, name: str) -> Path | None:
        """Return the file of a module or package in `src`; `None` for a folder without `__init__` and anything else."""
        path = self._source.joinpath(*name.split("."))
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if candidate.is_file():
                return candidate
        return None

    def _with_parents(self, name: str) -> list[Path]:
        """Return the files that Python runs to import `name`: the `__init__` of each package above it, and its own file."""
        steps = name.split(".")
        found = (self._find(".".join(steps[:count])) for count in range(1, len(steps) + 1))
        return [path for path in found if path is not None]

    def _needs(self, path: Path) -> tuple[list[Path], frozenset[str]]:
        """Return the project's files that a file imports, and the names that it imports from elsewhere."""
        if path not in self._needed:
            own: list[Path] = []
            others: set[str] = set()
            for name in self._read(path).imports:
                top = name.partition(".")[0]
                sibling = path.with_name(f"{top}.py")
                if (self._source / top).is_dir() or (self._source / f"{top}.py").is_file():
                    own += self._with_parents(name)
                elif path.parent == self._scripts and sibling.is_file() and top not in sys.stdlib_module_names:
                    own.append(sibling)
                else:
                    others.add(name)
            self._needed[path] = own, frozenset(others)
        return self._needed[path]

    def _read(self, path: Path) -> _File:
        if path not in self._files:
            name, package = self._names(path)
            tree = parse(_content(path), str(path))
            digest = NO_HASH if is_unhashed(name) else hash_tree(tree)
            self._files[path] = _File(name, path, digest, frozenset(_imports(tree.body, package)))
        return self._files[path]

    def _names(self, path: Path) -> tuple[str, list[str]]:
        """Return the name of a Python file in a fingerprint, and the package that its relative imports start from."""
        if path.is_relative_to(self._scripts):
            return path.relative_to(self._root).as_posix(), []
        steps = list(path.relative_to(self._source).with_suffix("").parts)
        if steps[-1] == "__init__":
            steps.pop()
            return ".".join(steps), steps
        return ".".join(steps), steps[:-1]

    def _data_files(self, folder: Path) -> dict[str, str]:
        """Hash the data files of the package in `folder`, such as templates and styles."""
        if folder not in self._data:
            files = {path.relative_to(self._source).as_posix(): _hash_data(path) for path in _data_below(folder)}
            self._data[folder] = files
        return self._data[folder]


def _imports(statements: Iterable[ast.stmt], package: list[str]) -> Iterator[str]:
    """Yield the absolute names that statements import, also inside functions; `from a import b` yields `a` and `a.b`."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package[: len(package) - statement.level + 1] if statement.level else []
            origin = ".".join([*above, *([statement.module] if statement.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in statement.names if alias.name != "*")
        else:
            for block in _blocks(statement):
                yield from _imports(block, package)


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements inside a statement, without those that only a type checker reads."""
    if isinstance(statement, ast.If) and getattr(statement.test, "attr", getattr(statement.test, "id", "")) == "TYPE_CHECKING":
        yield statement.orelse
        return
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield branch.body


def _data_below(folder: Path) -> Iterator[Path]:
    """Yield the files in `folder` that are not Python, and those of its subfolders that hold no Python at all."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")) or path.suffix in NOT_DATA or path.name.endswith("~"):
            continue
        if path.is_file():
            yield path
        elif not any(path.rglob("*.py")):
            yield from _data_below(path)


def _hash_data(path: Path) -> str:
    """Hash a data file; in text, Windows line endings count as Unix ones, because git may convert them."""
    content = _content(path)
    return hash_bytes(content if b"\0" in content else content.replace(b"\r\n", b"\n"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabbookError(f"{path}: {error.strerror or error}. Check the file's permissions.") from error
