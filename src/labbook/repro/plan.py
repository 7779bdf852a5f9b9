"""Decide which stages run next: those whose upstream stages are done, the longest remaining path first."""

import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean

from dvc.repo.reproduce import handle_error
from dvc.stage import Stage
from networkx import DiGraph

from labbook.training.timing import TIMING

__all__ = ["Plan"]

TIMED = ("train", "sweep")  # stages that record their seconds


class Plan:
    """The stages of `steps` that have not run yet; `steps` is in a valid sequential order.

    The arguments are those of DVC's `_reproduce`, and `jobs`, the number of jobs that each stage occupies, and `many`, the
    stages that can use more jobs: the first of them to start gets all jobs that no other stage can use. An edge of `graph`
    leads from a stage to its dependency.
    """

    def __init__(
        self,
        steps: list[Stage],
        graph: DiGraph,
        jobs: Mapping[Stage, int],
        many: Collection[Stage] = (),
        *,
        force: bool,
        force_downstream: bool,
        on_error: str,
    ) -> None:
        self._graph = graph
        self._jobs: dict[Stage, int] = dict(jobs)
        self._many = many
        self._force_downstream = force_downstream
        self._on_error = on_error
        asked = set(steps)
        self._upstream = {stage: set(graph.successors(stage)) & asked for stage in steps}  # of waiting stages
        self._running: dict[Stage, float] = {}  # start times
        self._seconds = {stage: _seconds_last_time(stage) for stage in steps}
        self._remaining: dict[Stage, float] = {}  # seconds of a stage plus the longest path after it
        for stage in reversed(steps):
            further = [self._remaining[other] for other in graph.predecessors(stage) if other in self._remaining]
            self._remaining[stage] = self._seconds[stage] + max(further, default=0.0)
        self._took: dict[str, list[float]] = {}  # seconds of finished stages by kind, such as `evaluate`
        self.count = len(steps)
        self.forced = dict.fromkeys(steps, force)
        self.ran: set[Stage] = set()
        self.failed: dict[Stage, Exception] = {}

    def upstream(self, stage: Stage) -> list[Stage]:
        """Return the stages that `stage` depends on."""
        return list(self._graph.successors(stage))

    def start_ready(self, jobs: int) -> list[Stage]:
        """Start stages that are ready, the longest remaining path first, until `jobs` jobs are occupied.

        A stage that needs more jobs than are free waits; smaller ones start before it, so that no job stays idle.
        """
        free = jobs - sum(self._jobs[stage] for stage in self._running)
        ready = sorted(
            (stage for stage, upstream in self._upstream.items() if not upstream), key=lambda stage: -self._remaining[stage]
        )
        started = []
        for stage in ready:
            if self._jobs[stage] <= free:
                free -= self._jobs[stage]
                del self._upstream[stage]
                self._running[stage] = time.monotonic()
                started.append(stage)
        for stage in filter(self._many.__contains__, started):  # no other stage can use the remaining jobs
            self._jobs[stage] += free
            free = 0
        return started

    def jobs(self, stage: Stage) -> int:
        """Return the number of jobs that a stage occupies."""
        return self._jobs[stage]

    def done(self, stage: Stage, *, ran: bool) -> None:
        """Mark `stage` as done and release the stages that waited for it."""
        seconds = time.monotonic() - self._running.pop(stage)
        if ran:
            self._took.setdefault(_kind(stage), []).append(seconds)
            self.ran.add(stage)
        if self._force_downstream and (ran or self.forced[stage]):
            self.forced.update(dict.fromkeys(self._graph.predecessors(stage), True))
        self._release(stage)

    def fail(self, stage: Stage, error: Exception) -> None:
        """Mark `stage` as failed and drop the stages that cannot run: all, or with --keep-going its dependents."""
        del self._running[stage]
        self.failed[stage] = error
        dependents = handle_error(self._graph, self._on_error, error, stage)  # prints the error immediately
        for other in list(self._upstream) if self._on_error == "fail" else dependents:
            self._upstream.pop(other, None)
        self._release(stage)

    def _release(self, stage: Stage) -> None:
        for other in self._graph.predecessors(stage):
            if other in self._upstream:
                self._upstream[other].discard(stage)

    @property
    def left(self) -> int:
        """The number of stages that wait or run."""
        return len(self._upstream) + len(self._running)

    def seconds_left(self, jobs: int) -> float:
        """Estimate the seconds until the run ends if all remaining stages run. Thread-safe.

        The estimate for a stage is its time in the last run, or the mean of finished stages of its kind.
        """
        now = time.monotonic()
        gone = {stage: now - since for stage, since in list(self._running.items())}
        stages = [*list(self._upstream), *gone]
        work = sum(max(0.0, self._expected(stage) - gone.get(stage, 0.0)) * self._jobs[stage] for stage in stages)
        longest = max((self._remaining[stage] - gone.get(stage, 0.0) for stage in stages), default=0.0)
        return max(longest, work / jobs)

    def _expected(self, stage: Stage) -> float:
        took = self._took.get(_kind(stage))
        return self._seconds[stage] or (fmean(took) if took else 0.0)


def _kind(stage: Stage) -> str:
    name: str = stage.addressing
    return name.partition("@")[0]


def _seconds_last_time(stage: Stage) -> float:
    """Return the seconds of the last training, from `timing/<name>.json`; 0 if there is no such file."""
    kind, _, name = stage.addressing.partition("@")
    if kind not in TIMED:
        return 0.0
    try:
        return float(json.loads(Path(stage.wdir, TIMING, f"{name}.json").read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # affects only the order; the stage rewrites the file
