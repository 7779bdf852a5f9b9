"""Check all of `params.yaml` at once: the typed keys, and that every part it names is there and takes its settings."""

from collections.abc import Iterator

from labbook.core.errors import ParamsError
from labbook.core.parts import FAMILIES, Part, find, load, names
from labbook.core.reading import read
from labbook.core.settings import PARTS, TrainSettings
from labbook.params.project import Project, read_project
from labbook.params.sweep import variants

__all__ = ["check_project"]

# What each file of a family must hold.
OFFERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PARTS, ("Settings", "build")),
    "task": ("evaluate", "write"),
    "dataset": ("fetch", "prepare"),
    "composed": ("compose",),
    "pretrained": ("fetch", "read", "without_head"),
}


def check_project() -> Project:
    """Read and check the whole file.

    Raises:
        ParamsError: with one line for every key that is wrong.
    """
    project = read_project()
    problems = list(_problems(project)) or list(_unlike(project))
    if problems:
        raise ParamsError("\n".join(problems))
    return project


def _problems(project: Project) -> Iterator[str]:
    for family, offers in OFFERS.items():
        for name in names(family):
            missing = [offer for offer in offers if not hasattr(find(family, name, family), offer)]
            if missing:
                yield f"src/labbook/{FAMILIES[family]}/{name}.py: offers no {', '.join(missing)}. See the other files there."
    for family, group in (("dataset", "datasets"), ("composed", "composed"), ("pretrained", "pretrained")):
        for name in getattr(project, group):
            yield from _missing(family, name, f"{group}.{name}")
    for name, pretrained in project.pretrained.items():
        yield from _wrong_parts(pretrained.train, f"pretrained.{name}.train")
    for name, experiment in project.experiments.items():
        yield from _missing("task", experiment.task, f"experiments.{name}.task")
        yield from _wrong_parts(experiment.train, f"experiments.{name}.train")
    values = read()
    for name, sweep in project.sweeps.items():
        key = f"sweeps.{name}"
        for value, settings in variants(values["sweeps"][name]["train"], sweep.vary, key):
            yield from _wrong_parts(settings, f"{key} at {value:g}: {key}.train")


def _unlike(project: Project) -> Iterator[str]:
    """Compare the parts that DVC needs in a second place with those of the experiment."""
    again = {("explain", name): explained.model_dump(exclude={"look"}) for name, explained in project.explain.items()}
    again |= {("seeds", name): seeded.model_dump(exclude={"seeds"}) for name, seeded in project.seeds.items()}
    for (group, name), parts in again.items():
        train = project.experiments[name].train
        for key, found in parts.items():
            own = getattr(train, key)
            wanted = own.name if isinstance(own, Part) else own
            if found != wanted:
                yield f"{group}.{name}.{key}: is {found}, and experiments.{name} has {wanted}. Make them the same."


def _missing(family: str, name: str, key: str) -> Iterator[str]:
    try:
        find(family, name, key)
    except ParamsError as error:
        yield str(error)


def _wrong_parts(settings: TrainSettings, key: str) -> Iterator[str]:
    for family in PARTS:
        try:
            load(family, getattr(settings, family), f"{key}.{family}")
            load(family, getattr(settings.on("embedded"), family), f"{key}.embedded.{family}")
        except ParamsError as error:
            yield str(error)
