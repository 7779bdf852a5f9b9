"""Which stages may run: those whose upstream stages are done, and first those on which the longest work waits."""

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

TIMED = ("train", "sweep")  # stages that write their seconds


class Plan:
    """What is still to do of `steps`, which stand in an order that a sequential run could take.

    The arguments are those of DVC's `_reproduce`; `jobs`: for how many each stage counts; and `many`: stages that have use for
    more, of which the first to start gets those that nothing else waits for. An edge of `graph` leads from a stage to what it
    depends on.
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
        self._upstream = {stage: set(graph.successors(stage)) & asked for stage in steps}  # of those that wait
        self._at_work: dict[Stage, float] = {}  # since when
        self._seconds = {stage: _seconds_last_time(stage) for stage in steps}
        self._way: dict[Stage, float] = {}  # seconds to the end of the run: of a stage and the longest way on from it
        for stage in reversed(steps):
            further = [self._way[other] for other in graph.predecessors(stage) if other in self._way]
            self._way[stage] = self._seconds[stage] + max(further, default=0.0)
        self._took: dict[str, list[float]] = {}  # seconds of the stages of a kind, such as `evaluate`, that ran just now
        self.count = len(steps)
        self.forced = dict.fromkeys(steps, force)
        self.ran: set[Stage] = set()
        self.failed: dict[Stage, Exception] = {}

    def upstream(self, stage: Stage) -> list[Stage]:
        """Name the stages that make what `stage` depends on."""
        return list(self._graph.successors(stage))

    def take(self, jobs: int) -> list[Stage]:
        """Take stages that can run now, those with the longest way to the end first, until so many jobs are at work.

        One that counts for more than are free waits, and others go before it rather than leave a job idle.
        """
        free = jobs - sum(self._jobs[stage] for stage in self._at_work)
        ready = sorted(
            (stage for stage, upstream in self._upstream.items() if not upstream), key=lambda stage: -self._way[stage]
        )
        taken = []
        for stage in ready:
            if self._jobs[stage] <= free:
                free -= self._jobs[stage]
                del self._upstream[stage]
                self._at_work[stage] = time.monotonic()
                taken.append(stage)
        for stage in filter(self._many.__contains__, taken):  # nothing else can use what is left
            self._jobs[stage] += free
            free = 0
        return taken

    def jobs(self, stage: Stage) -> int:
        """Give for how many jobs a stage counts now."""
        return self._jobs[stage]

    def done(self, stage: Stage, *, ran: bool) -> None:
        """Let those go on that waited for `stage`."""
        seconds = time.monotonic() - self._at_work.pop(stage)
        if ran:
            self._took.setdefault(_kind(stage), []).append(seconds)
            self.ran.add(stage)
        if self._force_downstream and (ran or self.forced[stage]):
            self.forced.update(dict.fromkeys(self._graph.predecessors(stage), True))
        self._release(stage)

    def fail(self, stage: Stage, error: Exception) -> None:
        """Give up what cannot run without `stage`: all, or with --keep-going what depends on it."""
        del self._at_work[stage]
        self.failed[stage] = error
        dependents = handle_error(self._graph, self._on_error, error, stage)  # tells of it at once
        for other in list(self._upstream) if self._on_error == "fail" else dependents:
            self._upstream.pop(other, None)
        self._release(stage)

    def _release(self, stage: Stage) -> None:
        for other in self._graph.predecessors(stage):
            if other in self._upstream:
                self._upstream[other].discard(stage)

    @property
    def left(self) -> int:
        """How many stages wait or are at work."""
        return len(self._upstream) + len(self._at_work)

    def seconds_left(self, jobs: int) -> float:
        """Estimate how long the rest takes if all of it runs; any thread may ask.

        A stage takes as long as the last time, or as those of its kind did just now.
        """
        now = time.monotonic()
        gone = {stage: now - since for stage, since in list(self._at_work.items())}
        stages = [*list(self._upstream), *gone]
        work = sum(max(0.0, self._expected(stage) - gone.get(stage, 0.0)) * self._jobs[stage] for stage in stages)
        longest = max((self._way[stage] - gone.get(stage, 0.0) for stage in stages), default=0.0)
        return max(longest, work / jobs)

    def _expected(self, stage: Stage) -> float:
        took = self._took.get(_kind(stage))
        return self._seconds[stage] or (fmean(took) if took else 0.0)


def _kind(stage: Stage) -> str:
    name: str = stage.addressing
    return name.partition("@")[0]


def _seconds_last_time(stage: Stage) -> float:
    """Return how long a training took, from its side file `timing/<name>.json`; 0 where there is none."""
    kind, _, name = stage.addressing.partition("@")
    if kind not in TIMED:
        return 0.0
    try:
        return float(json.loads(Path(stage.wdir, TIMING, f"{name}.json").read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # only the order depends on it; the stage writes it again
