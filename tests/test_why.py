"""`labbook why`: the reasons why DVC would run a stage again, compared with what DVC runs, in a small repository."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from dvc.repo import Repo

from labbook.__main__ import main
from labbook.errors import LabbookError
from labbook.why import why

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # raised when DVC loads a pipeline

ROOT = Path(__file__).parent.parent
SETTINGS = {"train/b": {"epochs": "3"}}
CHOSEN = {"train/a": ("labbook.models.cnn",), "train/b": ("labbook.models.mlp",)}
MODULES = (
    "__init__",
    "errors",
    "io",
    "stage",
    *(f"fingerprint/{path.stem}" for path in (ROOT / "src/labbook/fingerprint").glob("*.py")),
)
FILES = {
    "src/labbook/config/chosen.py": f"""
        def chosen_modules():
            return {CHOSEN}

        def settings_of_stages():
            return {SETTINGS}
    """,
    "src/labbook/models/cnn.py": "import captum\nwidth = 3\n",
    "src/labbook/models/mlp.py": "width = 4\n",
    "stages/train.py": "import _here\nimport labbook.models\n",
    "raw.txt": "raw\n",
    "params.yaml": "seed: 1\nexperiments:\n  a: {lr: 0.1, model: {name: cnn, channels: [1, 2]}}\n  b: {lr: 0.2}\n",
    "dvc.yaml": f"""
        stages:
          code:
            cmd: {sys.executable} stages/fingerprint.py
            deps: [src/labbook, stages]
            outs: [code]
          prepare:
            cmd: cp raw.txt data.txt
            deps: [raw.txt]
            outs: [data.txt]
          train:
            foreach: ${{experiments}}
            do:
              cmd: cp data.txt ${{key}}.model
              deps: [data.txt, 'code/train/${{key}}.txt']
              params: [seed, 'experiments.${{key}}']
              outs: ['${{key}}.model']
    """,
}  # fmt: skip


def write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else dedent(content).encode())


def replace(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text("utf-8")
    assert text.count(old) == 1
    write(folder, name, text.replace(old, new))


def reproduce(folder: Path) -> set[str]:
    """Run `dvc repro` and name the stages that ran."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with Repo() as repo:
            return {stage.addressing for stage in repo.reproduce()}
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which every stage has run."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    for name in ("stages/_here.py", "stages/fingerprint.py", *(f"src/labbook/{name}.py" for name in MODULES)):
        write(folder, name, (ROOT / name).read_bytes())
    for name, content in FILES.items():
        write(folder, name, content)
    write(folder, ".dvcignore", "__pycache__\n")
    Repo.init(str(folder), no_scm=True).close()
    assert reproduce(folder) == {"code", "prepare", "train@a", "train@b"}
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished repository, which is the current folder."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    return copy


def test_unchanged_stages_are_up_to_date(project: Path) -> None:
    assert why("train@a", CHOSEN, SETTINGS) == "train@a is up to date."
    assert why("train", CHOSEN, SETTINGS) == "train@a is up to date.\ntrain@b is up to date."
    assert why("code", CHOSEN, SETTINGS) == "code is up to date."
    assert reproduce(project) == set()


def test_comment_only_runs_the_stage_code(project: Path) -> None:
    replace(project, "src/labbook/models/cnn.py", "width = 3", "# As in the paper.\nwidth = 3")
    assert why("train", CHOSEN, SETTINGS) == "train@a is up to date.\ntrain@b is up to date."
    assert why("code", CHOSEN, SETTINGS) == "code would run again:\n  file src/labbook changed"
    assert reproduce(project) == {"code"}


def test_changed_module_is_named(project: Path) -> None:
    replace(project, "src/labbook/models/cnn.py", "width = 3", "width = 5")
    assert why("train", CHOSEN, SETTINGS) == (
        "train@a would run again:\n  code labbook.models.cnn changed\ntrain@b is up to date."
    )  # fmt: skip
    assert reproduce(project) == {"code", "train@a"}
    assert why("train", CHOSEN, SETTINGS) == "train@a is up to date.\ntrain@b is up to date."


def test_new_and_removed_code_is_named_even_after_the_stage_code_ran(project: Path) -> None:
    write(project, "src/labbook/models/layers.py", "")
    write(project, "src/labbook/models/cnn.py", "import labbook.models.layers\nimport numpy\n")
    expected = (
        "train@a would run again:\n"
        "  code labbook.models.cnn changed\n"
        "  code labbook.models.layers is new\n"
        "  package captum is no longer used\n"
        "  package numpy is new"
    )
    assert why("train@a", CHOSEN, SETTINGS) == expected
    with Repo() as repo:
        repo.reproduce("code", single_item=True)
    assert why("train@a", CHOSEN, SETTINGS) == expected


def test_changed_settings_of_a_training_are_named_with_their_values(project: Path) -> None:
    assert why("train@b", CHOSEN, {"train/b": {"epochs": "5"}}) == "train@b would run again:\n  setting epochs: 3 → 5"


def test_changed_parameters_of_a_stage_are_named_with_their_values(project: Path) -> None:
    write(
        project,
        "params.yaml",
        "seed: 2\nexperiments:\n  a: {lr: 0.05, model: {name: 'cnn', channels: [1]}, batch: 8}\n  b: {}\n",
    )
    assert why("train", CHOSEN, SETTINGS) == (
        "train@a would run again:\n"
        "  setting seed: 1 → 2\n"
        "  setting experiments.a.lr: 0.1 → 0.05\n"
        "  setting experiments.a.model.channels: [1, 2] → [1]\n"
        "  setting experiments.a.batch: not set → 8\n"
        "train@b would run again:\n"
        "  setting seed: 1 → 2\n"
        "  setting experiments.b.lr: 0.2 → not set"
    )
    assert reproduce(project) == {"train@a", "train@b"}


def test_order_of_settings_does_not_matter(project: Path) -> None:
    write(
        project,
        "params.yaml",
        "experiments:\n  b:\n    lr: 0.2\n  a: {model: {channels: [1, 2], name: cnn}, lr: 0.1}\nseed: 1\n",
    )
    assert why("train@a", CHOSEN, SETTINGS) == "train@a is up to date."
    assert reproduce(project) == set()


def test_changed_command_is_named(project: Path) -> None:
    replace(project, "dvc.yaml", "cmd: cp data.txt ${key}.model", "cmd: cp -p data.txt ${key}.model")
    assert (
        why("train@b", CHOSEN, SETTINGS) == "train@b would run again:\n  command: cp data.txt b.model → cp -p data.txt b.model"
    )
    assert reproduce(project) == {"train@a", "train@b"}


def test_new_dependencies_are_named(project: Path) -> None:
    replace(project, "dvc.yaml", "deps: [raw.txt]", "deps: [raw.txt, params.yaml, code/train/a.txt]")
    assert why("prepare", CHOSEN, SETTINGS) == (
        "prepare would run again:\n  file params.yaml is a new dependency\n  file code/train/a.txt is a new dependency"
    )
    assert reproduce(project) == {"prepare"}


def test_changed_files_are_named_with_their_upstream_stages(project: Path) -> None:
    write(project, "raw.txt", "other\n")
    assert why("train@a", CHOSEN, SETTINGS) == (
        "train@a has not changed, but would run again if one of these stages writes something new:\n"
        "  prepare: file raw.txt changed"
    )  # fmt: skip
    (project / "data.txt").unlink()
    assert why("train@a", CHOSEN, SETTINGS) == (
        "train@a would run again:\n"
        "  file data.txt is missing\n"
        "These stages would run first:\n"
        "  prepare: file raw.txt changed (and 1 more)"
    )  # fmt: skip
    assert reproduce(project) == {"prepare", "train@a", "train@b"}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_text("other"), "changed"),
    ],
)
def test_changed_outputs_are_named(project: Path, change: Callable[[Path], object], state: str) -> None:
    path = project / "a.model"
    path.chmod(0o644)
    change(path)
    assert why("train", CHOSEN, SETTINGS) == f"train@a would run again:\n  output a.model {state}\ntrain@b is up to date."


def test_changed_package_version_is_named(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "site/captum-99.0.dist-info/METADATA", "Name: captum\nVersion: 99.0\n")
    write(tmp_path, "site/captum-99.0.dist-info/top_level.txt", "captum\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    notice = " (DVC detects it after the stage `code` has run: `dvc repro --force --single-item code`)"
    first, second, *_, last = why("train", CHOSEN, SETTINGS).splitlines()
    assert first == "train@a would run again:"
    assert re.fullmatch(rf"  package captum: [0-9.]+ → 99\.0{re.escape(notice)}", second)
    assert last == "train@b is up to date."
    assert reproduce(project) == set()


def test_stage_that_never_ran_is_named(project: Path) -> None:
    replace(project, "params.yaml", "  b: {lr: 0.2}", "  b: {lr: 0.2}\n  c: {lr: 0.3}")
    assert why("train@c", CHOSEN | {"train/c": ()}, SETTINGS) == (
        "train@c would run again:\n  it has not run yet: dvc.lock has no entry for it"
    )  # fmt: skip


def test_missing_fingerprint_is_named(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "code")
    replace(project, "src/labbook/models/cnn.py", "width = 3", "width = 5")
    lines = why("train@a", CHOSEN, SETTINGS).splitlines()
    assert (
        "  code, packages or settings changed; DVC's cache lacks the old code/train/a.txt, or its format is outdated" in lines
    )
    assert "  output a.model is not in DVC's cache" in lines
    assert why("train@a", {}).splitlines()[1] == "  file code/train/a.txt: the stage `code` does not write it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian@a", "trian@a: no such stage; did you mean train@a or train@b?"),
        ("prepar", "prepar: no such stage; did you mean prepare?"),
        ("x" * 20, f"{'x' * 20}: no such stage; `dvc stage list` lists all stages."),
    ],
)
def test_unknown_stage_is_refused_with_the_nearest_names(project: Path, name: str, message: str) -> None:
    with pytest.raises(LabbookError) as caught:
        why(name, CHOSEN, SETTINGS)
    assert str(caught.value) == message


def test_invalid_pipeline_is_an_error(project: Path, tmp_path: Path) -> None:
    write(project, "dvc.yaml", "stages: [")
    with pytest.raises(LabbookError, match=r"^DVC: .*dvc\.yaml"):
        why("train@a", CHOSEN, SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabbookError, match=r"^DVC: .*not inside of a DVC repository"):
        why("train@a", CHOSEN, SETTINGS, tmp_path / "empty")


def test_invalid_code_is_an_error(project: Path) -> None:
    write(project, "src/labbook/models/cnn.py", "width = (\n")
    with pytest.raises(LabbookError, match=r"models/cnn\.py, line 1: not valid Python"):
        why("train@a", CHOSEN, SETTINGS)
    assert why("train@b", CHOSEN, SETTINGS) == "train@b is up to date."


def test_command_prints_the_reasons(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = type(sys)("labbook.config.chosen")
    chosen.chosen_modules = lambda: CHOSEN  # type: ignore[attr-defined]
    chosen.settings_of_stages = lambda: SETTINGS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "labbook.config.chosen", chosen)
    main(["why", "train@a"])
    assert capsys.readouterr().out == "train@a is up to date.\n"
    with pytest.raises(SystemExit, match=r"^error: train@x: no such stage; did you mean"):
        main(["why", "train@x"])
