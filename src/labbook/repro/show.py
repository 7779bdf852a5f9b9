"""What is seen of stages that run side by side: a table as long as they run, or plain lines where nobody watches."""

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

__all__ = ["Show", "show"]

LINES_KEPT = 100_000  # of each command, for when it fails


class Show(Protocol):
    """Hears what becomes of stages, from any thread; `name` is a stage's address."""

    captures: bool  # what commands print comes to `line`

    def begin(self, name: str) -> None:
        """The stage's command has been started."""

    def line(self, name: str, line: str) -> None:
        """The command has printed this."""

    def end(self, name: str, *, ran: bool) -> None:
        """The stage is done; `ran`: its command has run, or what it makes came back from the run cache."""

    def fail(self, name: str) -> None:
        """The stage has failed."""


@contextmanager
def show(plan: Plan, jobs: int, interrupted: Callable[[], bool]) -> Iterator[Show]:
    """Show a table when a person watches; lines when not, or when DVC is asked to say more or less than usual."""
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
    """Behind its stage's name stands each line of a command, unless only one runs at a time."""

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
        """Give how long it has run, and what it said last."""
        return _span(time.monotonic() - self.started), Text.from_ansi(self.lines[-1] if self.lines else "")


class _LiveTable:
    """A row for each stage at work with the last line of its command; what has ended scrolls away above."""

    captures = True

    def __init__(self, console: Console, plan: Plan, jobs: int, interrupted: Callable[[], bool]) -> None:
        self._console = console
        self._plan = plan
        self._jobs = jobs
        self._interrupted = interrupted
        self._started = time.monotonic()
        self._at_work: dict[str, _Command] = {}
        self._ended = Counter(ran=0, restored=0, unchanged=0, failed=0)

    def begin(self, name: str) -> None:
        self._at_work.setdefault(name, _Command())  # a stage may have several commands, one after the other

    def line(self, name: str, line: str) -> None:
        command = self._at_work.get(name)  # none: something that the command left behind still talks
        if command and line:
            command.lines.append(line)

    def end(self, name: str, *, ran: bool) -> None:
        command = self._at_work.pop(name, None)
        outcome = "unchanged" if not ran else "restored" if command is None else "ran"
        self._ended[outcome] += 1
        if ran:
            self._tell(Text(outcome, "green"), name, command)

    def fail(self, name: str) -> None:
        command = self._at_work.pop(name, None)
        self._ended["failed"] += 1
        self._tell(Text("failed", "red"), name, command)
        if command and not self._interrupted():
            self._console.print(Text.from_ansi("\n".join(command.lines)), soft_wrap=True)

    def _tell(self, outcome: Text, name: str, command: _Command | None) -> None:
        table = _grid()
        table.add_row(outcome, Text(name), *(command.row if command else ()))
        self._console.print(table)

    def render(self) -> Group:
        """Draw what runs, and how far the whole is."""
        table = _grid()
        for name, command in list(self._at_work.items()):
            table.add_row(Text("runs", "cyan"), Text(name), *command.row)
        return Group(table, self._how_far())

    def _how_far(self) -> Text:
        if self._interrupted():
            return Text("ending what runs; interrupt once more to kill it", "yellow")
        seconds = self._plan.seconds_left(self._jobs)
        more = f", {_span(seconds)} more if all of them run" if seconds else ""
        return Text(f"{self._counts()}; {self._plan.left} to go{more}")

    def _counts(self) -> str:
        return ", ".join(f"{count} {outcome}" for outcome, count in self._ended.items() if count or outcome == "ran")

    def summary(self) -> Text:
        """Say what became of all stages."""
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
    """Standard error above the table; it is no terminal, so that nobody draws progress bars on it."""

    def isatty(self) -> bool:
        return False


@contextmanager
def _dvc_above_the_table(console: Console) -> Iterator[None]:
    """Let DVC's warnings stand above the table, and keep away its progress bars and what the table says."""
    above = _Above(console, sys.stderr)
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(above))
        stack.enter_context(set_loggers_level(logging.WARNING))
        for handler in logging.getLogger("dvc").handlers:
            if isinstance(handler, logging.StreamHandler):
                stack.callback(handler.setStream, handler.stream)
                handler.setStream(above)
        yield
