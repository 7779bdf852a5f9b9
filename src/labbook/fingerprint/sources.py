"""Find the modules and data files that a stage script may use, by following its imports without executing them."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from labbook.errors import LabbookError
from labbook.fingerprint.meaning import hash_bytes, hash_tree, parse

__all__ = ["Closure", "Sources", "is_unhashed"]

# Modules and packages that cannot change the outputs of a stage. A fingerprint lists them by name, without a hash.
UNHASHED = (
    "labbook.fingerprint",  # decides whether a stage runs; if the hashing changes, all hashes change anyway
    "labbook.config.messages",  # error messages, after which a stage ends
    "labbook.training.launch",  # starts the processes of a training, which check their number against the settings
    "labbook.training.progress",  # prints to the terminal
    "labbook.training.timing",  # writes files that are not outputs of a stage
)
NO_HASH = "unhashed"

SCRIPTS = "stages"
NOT_DATA = {".py", ".pyc", ".pyi", ".orig", ".rej", ".swp"}


@dataclass(frozen=True)
class Closure:
    """Code that a stage may use.

    Attributes:
        code: the hash of each script, module and data file; `unhashed` if it cannot change the outputs of a stage. The name of
            a script or data file is its path below the project or `src`, that of a module its dotted name.
        imported: the dotted names that this code imports from elsewhere, such as `torch.nn`.
    """

    code: dict[str, str]
    imported: frozenset[str]


def is_unhashed(module: str) -> bool:
    """Return whether a module, by its dotted name, cannot change the outputs of a stage."""
    return f"{module}.".startswith(tuple(f"{name}." for name in UNHASHED))


@dataclass(frozen=True)
class _File:
    """One Python file: its name in a fingerprint, and the dotted names that it imports."""

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
        self._dependencies_of: dict[Path, tuple[list[Path], frozenset[str]]] = {}
        self._data: dict[Path, dict[str, str]] = {}

    def closure(self, script: str, modules: Iterable[str] = ()) -> Closure:
        """Follow the imports of `stages/<script>.py`, and those of `modules`, which it imports by name at run time.

        Raises:
            LabbookError: a script or module is missing or is not valid Python.
        """
        pending = [self._script(script), *(path for module in modules for path in self._module(module))]
        reached: set[Path] = set()
        imported: set[str] = set()
        while pending:
            path = pending.pop()
            if path not in reached:
                reached.add(path)
                internal, external = self._dependencies(path)
                pending += internal
                imported |= external
        code = {self._read(path).name: self._read(path).digest for path in reached}
        for folder in {path.parent for path in reached if not path.is_relative_to(self._scripts)}:
            code |= self._data_files(folder)
        return Closure(code, frozenset(imported))

    def digest(self, name: str) -> str | None:
        """Return the current hash of the file that a fingerprint lists as `name`, or `None` if it no longer exists."""
        if name.startswith(f"{SCRIPTS}/"):
            path = self._root / name
            return self._read(path).digest if path.is_file() else None
        if "/" in name:
            path = self._source / name
            return _hash_data(path) if path.is_file() else None
        module = self._find(name)
        return self._read(module).digest if module else None

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

    def _module(self, name: str) -> list[Path]:
        if self._find(name) is None:
            raise LabbookError(f"{name}: no such module in {self._source}, but a stage imports it by name. Check params.yaml.")
        return self._with_parents(name)

    def _find(self, name: str) -> Path | None:
        """Return the file of a module or package in `src`, or `None` if there is none, as for a folder without `__init__`."""
        path = self._source.joinpath(*name.split("."))
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if candidate.is_file():
                return candidate
        return None

    def _with_parents(self, name: str) -> list[Path]:
        """Return the files that Python executes to import `name`: the `__init__` of each parent package, and its own file."""
        names = name.split(".")
        paths = (self._find(".".join(names[:count])) for count in range(1, len(names) + 1))
        return [path for path in paths if path is not None]

    def _dependencies(self, path: Path) -> tuple[list[Path], frozenset[str]]:
        """Return the project's files that a file imports, and the names that it imports from elsewhere."""
        if path not in self._dependencies_of:
            internal: list[Path] = []
            external: set[str] = set()
            for name in self._read(path).imports:
                top = name.partition(".")[0]
                sibling = path.with_name(f"{top}.py")
                if (self._source / top).is_dir() or (self._source / f"{top}.py").is_file():
                    internal += self._with_parents(name)
                elif path.parent == self._scripts and sibling.is_file() and top not in sys.stdlib_module_names:
                    internal.append(sibling)
                else:
                    external.add(name)
            self._dependencies_of[path] = internal, frozenset(external)
        return self._dependencies_of[path]

    def _read(self, path: Path) -> _File:
        if path not in self._files:
            name, package = self._names(path)
            tree = parse(_content(path), str(path))
            digest = NO_HASH if is_unhashed(name) else hash_tree(tree)
            self._files[path] = _File(name, path, digest, frozenset(_imports(tree.body, package)))
        return self._files[path]

    def _names(self, path: Path) -> tuple[str, list[str]]:
        """Return the name of a Python file in a fingerprint, and the package to which its relative imports refer."""
        if path.is_relative_to(self._scripts):
            return path.relative_to(self._root).as_posix(), []
        names = list(path.relative_to(self._source).with_suffix("").parts)
        if names[-1] == "__init__":
            names.pop()
            return ".".join(names), names
        return ".".join(names), names[:-1]

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
            parents = package[: len(package) - statement.level + 1] if statement.level else []
            origin = ".".join([*parents, *([statement.module] if statement.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in statement.names if alias.name != "*")
        else:
            for block in _blocks(statement):
                yield from _imports(block, package)


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks inside a compound statement, except those under `TYPE_CHECKING`."""
    if isinstance(statement, ast.If) and getattr(statement.test, "attr", getattr(statement.test, "id", "")) == "TYPE_CHECKING":
        yield statement.orelse
        return
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield branch.body


def _data_below(folder: Path) -> Iterator[Path]:
    """Yield the data files in `folder` and in its subfolders that contain no Python files."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")) or path.suffix in NOT_DATA or path.name.endswith("~"):
            continue
        if path.is_file():
            yield path
        elif not any(path.rglob("*.py")):
            yield from _data_below(path)


def _hash_data(path: Path) -> str:
    """Hash a data file; in text files, CRLF counts as LF, because git may convert line endings."""
    content = _content(path)
    return hash_bytes(content if b"\0" in content else content.replace(b"\r\n", b"\n"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabbookError(f"{path}: {error.strerror or error}. Check the file's permissions.") from error
