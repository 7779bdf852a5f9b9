"""Progress of parallel stages: a live table on a terminal, plain lines otherwise."""

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from dvc.logger import set_loggers_level
from rich.console import Console, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table
from rich.text import Text

from labbook.repro.plan import Plan

__all__ = ["Display", "open_display"]

LINES_KEPT = 100_000  # per command, printed if it fails


class Display(Protocol):
    """Receives events of stages from any thread; `name` is the address of a stage."""

    captures: bool  # whether the output of commands is passed to `line`

    def begin(self, name: str) -> None:
        """The stage's command has started."""

    def line(self, name: str, line: str) -> None:
        """The command has printed a line."""

    def end(self, name: str, *, ran: bool) -> None:
        """The stage is done; `ran`: it has run or was restored from the run cache, and was not unchanged."""

    def fail(self, name: str) -> None:
        """The stage has failed."""


@contextmanager
def open_display(plan: Plan, jobs: int, interrupted: Callable[[], bool]) -> Iterator[Display]:
    """Yield a live table on a terminal at DVC's default verbosity, plain lines otherwise."""
    console = Console()
    if not console.is_interactive or logging.getLogger("dvc").getEffectiveLevel() != logging.INFO:
        yield _Lines(jobs)
        return
    table = _LiveTable(console, plan, jobs, interrupted)
    try:
        with (
            _dvc_above_the_table(console),
            Live(console=console, get_renderable=table.render, transient=True, refresh_per_second=2, redirect_stderr=False),
        ):
            yield table
    finally:
        console.print(table.summary())


class _Lines:
    """Lines of commands, prefixed with the name of the stage unless only one stage runs at a time."""

    def __init__(self, jobs: int) -> None:
        self.captures = jobs > 1

    def begin(self, name: str) -> None:
        pass

    def line(self, name: str, line: str) -> None:
        print(f"[{name}] {line}", flush=True)

    def end(self, name: str, *, ran: bool) -> None:
        pass

    def fail(self, name: str) -> None:
        pass


@dataclass
class _Command:
    started: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))

    @property
    def row(self) -> tuple[str, Text]:
        """The running time and the last line of output."""
        return _span(time.monotonic() - self.started), Text.from_ansi(self.lines[-1] if self.lines else "")


class _LiveTable:
    """One row per running stage with its last line of output; finished stages are printed above."""

    captures = True

    def __init__(self, console: Console, plan: Plan, jobs: int, interrupted: Callable[[], bool]) -> None:
        self._console = console
        self._plan = plan
        self._jobs = jobs
        self._interrupted = interrupted
        self._started = time.monotonic()
        self._running: dict[str, _Command] = {}
        self._ended = Counter(ran=0, restored=0, unchanged=0, failed=0)

    def begin(self, name: str) -> None:
        self._running.setdefault(name, _Command())  # a stage may have several commands

    def line(self, name: str, line: str) -> None:
        command = self._running.get(name)  # none: a process that the command left behind is still printing
        if command and line:
            command.lines.append(line)

    def end(self, name: str, *, ran: bool) -> None:
        command = self._running.pop(name, None)
        outcome = "unchanged" if not ran else "restored" if command is None else "ran"
        self._ended[outcome] += 1
        if ran:
            self._print_outcome(Text(outcome, "green"), name, command)

    def fail(self, name: str) -> None:
        command = self._running.pop(name, None)
        self._ended["failed"] += 1
        self._print_outcome(Text("failed", "red"), name, command)
        if command and not self._interrupted():
            self._console.print(Text.from_ansi("\n".join(command.lines)), soft_wrap=True)

    def _print_outcome(self, outcome: Text, name: str, command: _Command | None) -> None:
        table = _grid()
        table.add_row(outcome, Text(name), *(command.row if command else ()))
        self._console.print(table)

    def render(self) -> Group:
        """Return the table of running stages and the progress of the run."""
        table = _grid()
        for name, command in list(self._running.items()):
            table.add_row(Text("runs", "cyan"), Text(name), *command.row)
        return Group(table, self._progress())

    def _progress(self) -> Text:
        if self._interrupted():
            return Text("stopping; interrupt again to kill the running stages", "yellow")
        seconds = self._plan.seconds_left(self._jobs)
        more = f", {_span(seconds)} left if all of them run" if seconds else ""
        return Text(f"{self._counts()}; {self._plan.left} to go{more}")

    def _counts(self) -> str:
        return ", ".join(f"{count} {outcome}" for outcome, count in self._ended.items() if count or outcome == "ran")

    def summary(self) -> Text:
        """Return the number of stages by outcome, and the total time."""
        others = self._plan.count - self._ended.total()
        return Text(f"{self._counts()}{f', {others} not run' if others else ''} in {_span(time.monotonic() - self._started)}")


def _grid() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=8)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class _Above(FileProxy):
    """Standard error above the table; not a terminal, so that no library draws progress bars on it."""

    def isatty(self) -> bool:
        return False


@contextmanager
def _dvc_above_the_table(console: Console) -> Iterator[None]:
    """Print DVC's warnings above the table, and suppress its progress bars and its messages about stages."""
    above = _Above(console, sys.stderr)
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(above))
        stack.enter_context(set_loggers_level(logging.WARNING))
        for handler in logging.getLogger("dvc").handlers:
            if isinstance(handler, logging.StreamHandler):
                stack.callback(handler.setStream, handler.stream)
                handler.setStream(above)
        yield
