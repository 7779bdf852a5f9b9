"""The ledger of official results: atomic writes, reading, and checks against predictions and tables."""

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sample_ledger import fill_ledger, make_project, run_experiment
from sample_records import make_record

from labbook.__main__ import main as labbook
from labbook.config.chosen import chosen_modules, settings_of_stages
from labbook.config.reading import read
from labbook.evaluation.ledger import LEDGER, Entry, checksums, read_entry, write_entry
from labbook.evaluation.provenance import experiment_stages
from labbook.fingerprint.record import Fingerprint
from labbook.fingerprint.write import write_fingerprints
from labbook.io import write_json
from labbook.plots import render, style
from labbook.report.cells import compare_tables
from labbook.report.records import Gathered
from labbook.report.results import draw, gather_ledger
from labbook.report.verify import check_experiment, check_history
from labbook.report.verify import verify as labbook_verify

CLASSIFIER, SEGMENTER, POINTS, SWEEP = "mnist_mlp_100", "scenes_unet", "rings_relu_zero", "mnist_cnn_dropout"


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A project whose ledger contains one experiment of each task and a sweep, with the tables."""
    folder = tmp_path_factory.mktemp("ledger") / "project"
    make_project(folder)
    with contextlib.chdir(folder):
        fill_ledger([CLASSIFIER, SEGMENTER, POINTS])
        labbook(["results"])
    return folder


@pytest.fixture
def project(filled, tmp_path, monkeypatch) -> Path:
    """A copy of that project, as the current folder."""
    shutil.copytree(filled, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def verify(project, capsys) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Run `labbook verify`: exit code, disagreements, and other lines."""

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = 0
        try:
            labbook(["verify", *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        lines = capsys.readouterr().out.splitlines()
        wrong = [line.removeprefix("disagreement: ") for line in lines if line.startswith("disagreement: ")]
        return code, wrong, [line.strip() for line in lines if not line.startswith("disagreement: ")]

    return run


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_unedited_ledger_agrees(verify):
    assert verify("--strict") == (0, [], ["results/official: 4 entries, 0 disagreements, 0 outdated"])


def test_a_changed_prediction_is_reported(verify):
    path = LEDGER / f"{CLASSIFIER}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    actual = int(arrays["labels"][7])
    arrays["predicted"][2, 7] = (actual + 1) % 10 if arrays["predicted"][2, 7] == actual else actual
    np.savez_compressed(path, allow_pickle=False, **arrays)
    code, wrong, _ = verify()
    assert code == 1
    assert f"{path}, array predicted: changed after it was written; its checksum does not match" in wrong
    accuracy = [line for line in wrong if line.startswith(f"results/official/{CLASSIFIER}.json, seed 2, test.test_accuracy:")]
    assert len(accuracy) == 1
    assert re.search(r": (0\.\d+), but (?!\1)0\.\d+ computed from the predictions$", accuracy[0])
    assert not any("seed 1," in line for line in wrong)


def test_a_changed_pixel_count_is_reported(verify):
    path = LEDGER / f"{SEGMENTER}.npz"
    with np.load(path) as file:
        counts = file["confusion"]
    counts[0, 3, 1, 1] += 1
    np.savez_compressed(path, allow_pickle=False, confusion=counts)
    code, wrong, _ = verify()
    assert code == 1
    assert f"{path}, array confusion: changed after it was written; its checksum does not match" in wrong
    assert any(line.startswith(f"results/official/{SEGMENTER}.json, seed 0, test.test_iou_per_class.1:") for line in wrong)


def test_a_changed_metric_is_reported_with_both_values(verify):
    path = LEDGER / f"{CLASSIFIER}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    accuracy = values["seeds"][1]["test"]["test_accuracy"]
    values["seeds"][1]["test"]["test_accuracy"] = round(accuracy + 0.005, 6)
    path.write_text(json.dumps(values), encoding="utf-8")
    code, wrong, _ = verify()
    assert code == 1
    assert f"{path}, key seeds: changed after it was written; its checksum does not match" in wrong
    named = f"{path}, seed 1, test.test_accuracy: {round(accuracy + 0.005, 6)}, but {accuracy} computed from the predictions"
    assert named in wrong


def test_card_contents_are_recomputed_even_if_the_checksums_match(verify):
    """The checksums are updated after each change, so that only the values disagree."""
    stored = read_entry(CLASSIFIER)
    values = json.loads(json.dumps(stored.values))
    first = values["metrics"]
    named = {
        f"metrics.test_ece: 0.5, but {first['test_ece']}": lambda new: new["metrics"].update(test_ece=0.5),
        "reliability[0].samples: 0, but ": lambda new: new["reliability"][0].update(samples=0),
        "mistakes[0].index: 199, but ": lambda new: new["mistakes"][0].update(index=199),
        f"seed 4, test.chance_accuracy: 0.2, but {first['chance_accuracy']}": lambda new: new["seeds"][4]["test"].update(
            chance_accuracy=0.2
        ),
    }
    for line, change in named.items():
        changed = copy.deepcopy(values)
        change(changed)
        changed["sha256"] = checksums(dataclasses.replace(stored, values=changed))
        (LEDGER / f"{CLASSIFIER}.json").write_text(json.dumps(changed), encoding="utf-8")
        code, wrong, _ = verify()
        assert code == 1
        assert wrong[0].startswith(f"results/official/{CLASSIFIER}.json, {line}")


@pytest.mark.parametrize(("kept", "seeds"), [(slice(4), 4), ([0, 1, 2, 3, 4, 4], 6)])
def test_predictions_of_fewer_or_more_seeds_are_reported_even_if_the_checksums_match(project, kept, seeds):
    stored = read_entry(CLASSIFIER)
    arrays = {key: array if key == "labels" else array[kept] for key, array in stored.predictions.items()}
    changed = dataclasses.replace(stored, predictions=arrays)
    changed = dataclasses.replace(changed, values={**stored.values, "sha256": checksums(changed)})
    assert check_experiment(changed, Path("x")) == [f"x.npz, array predicted: predictions of {seeds} seeds, but the card has 5"]


@pytest.mark.parametrize(("old", "new", "key"), [
    ('"train_loss": 0.125', '"train_loss": 0.126', "seeds"), ('"parameters": 79510', '"parameters": 79511', "parameters"),
    ('"seconds": 12.5', '"seconds": 12.6', "run"), ('"cores": 2', '"cores": 3', "run"),
])  # fmt: skip
def test_a_changed_value_that_predictions_do_not_determine_is_reported_by_its_key(verify, old, new, key):
    edit(f"results/official/{CLASSIFIER}.json", old, new)
    code, wrong, _ = verify()
    assert code == 1
    reason = "changed after it was written; its checksum does not match"
    assert wrong[0] == f"results/official/{CLASSIFIER}.json, key {key}: {reason}"


def test_a_changed_value_of_a_history_is_reported_by_its_column(verify):
    path = LEDGER / f"{CLASSIFIER}.tsv"
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    column = header.split("\t").index("val_accuracy")
    cells = first.split("\t")
    cells[column] = "0.999"  # better than all others, but not selected
    path.write_text("\n".join([header, "\t".join(cells), *rest]) + "\n", encoding="utf-8")
    code, wrong, _ = verify()
    assert code == 1
    assert f"{path}, column val_accuracy: changed after it was written; its checksum does not match" in wrong
    assert any(line.startswith(f"{path}, seed 0, row ") and ", column val_accuracy:" in line for line in wrong)


@pytest.mark.parametrize("path", ["results/official.md", "README.md"])
def test_a_changed_value_of_a_table_is_reported_by_row_and_column(verify, path):
    text = Path(path).read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{CLASSIFIER}` \| 0\.9786 \| .*$", text, flags=re.MULTILINE)
    reproduced = row.split(" | ")[2]
    edit(path, row, row.replace(reproduced, "0.9999"))
    code, wrong, _ = verify()
    assert (code, wrong) == (1, [f"{path}: row {CLASSIFIER}, column reproduced: expected '{reproduced}', found '0.9999'"])


def test_a_changed_value_of_the_csv_tables_is_reported_by_row_and_column(verify):
    edit("results/official.csv", f"{CLASSIFIER},A,0.9786", f"{CLASSIFIER},A,0.9785")
    edit("results/official-timing.csv", f"{SEGMENTER},1,2.5", f"{SEGMENTER},1,2.4")
    assert verify()[1] == [
        f"results/official.csv: row {CLASSIFIER}, column reported_test_accuracy: expected '0.9786', found '0.9785'",
        f"results/official-timing.csv: row {SEGMENTER}, column seconds: expected '2.5', found '2.4'",
    ]


def test_a_removed_key_and_an_added_array_are_reported(verify):
    values = json.loads((LEDGER / f"{CLASSIFIER}.json").read_text(encoding="utf-8"))
    del values["weights"]
    (LEDGER / f"{CLASSIFIER}.json").write_text(json.dumps(values), encoding="utf-8")
    counts = read_entry(SEGMENTER).predictions["confusion"]
    np.savez_compressed(LEDGER / f"{SEGMENTER}.npz", allow_pickle=False, confusion=counts, extra=np.zeros(1))
    reason = "changed after it was written; its checksum does not match"
    assert verify()[1] == [
        f"results/official/{CLASSIFIER}.json, key weights: {reason}",
        f"results/official/{SEGMENTER}.npz, array extra: {reason}",
    ]


def test_selected_weights_that_contradict_the_history_are_reported():
    rows = ["seed\tepoch\tstep\tval_loss\tval_accuracy", "0\t1\t10\t0.5\t0.75", "0\t2\t20\t0.25\t0.5"]

    def check(select: str = "last", **changes: object) -> list[str]:
        seed = {"seed": 0, "val_loss": 0.25, "val_accuracy": 0.5, "kept": {"row": 1, "epoch": 2, "step": 20}, **changes}
        values = {"settings": {"select": select}, "seeds": [seed]}
        return list(check_history(Entry("x", values, {}, "\n".join(rows) + "\n"), Path("x")))

    assert check() == check("best_val_loss") == []
    assert check("best_val_accuracy") == [
        "x.tsv, seed 0, row 1, column val_accuracy: 0.5 of the selected weights; the best is 0.75"
    ]
    assert check(val_loss=0.3) == ["x.tsv, seed 0, row 1, column val_loss: 0.25, but 0.3 in x.json"]
    first = {"kept": {"row": 0, "epoch": 1, "step": 10}, "val_loss": 0.5, "val_accuracy": 0.75}
    assert check(**first) == ["x.tsv, seed 0, row 0: expected the weights after the last row to be selected"]
    assert check("best_val_accuracy", **first) == []
    assert check(kept={"row": 1, "epoch": 2, "step": 30}) == ["x.tsv, seed 0, row 1, column step: 20, but 30 in x.json"]
    assert check(seed=1) == ["x.tsv, column seed: differs from the seeds in x.json"]


def test_a_changed_row_of_a_sweep_is_reported_by_its_column(verify):
    edit(f"results/official/sweeps/{SWEEP}.tsv", "0.875", "0.876")
    reason = "changed after it was written; its checksum does not match"
    code, wrong, _ = verify()
    assert (code, wrong[0]) == (1, f"results/official/sweeps/{SWEEP}.tsv, column test_accuracy: {reason}")


def test_a_value_that_a_sweep_no_longer_takes_is_listed(verify):
    edit("params.yaml", "count: 10", "count: 11")
    lines = verify()[2]
    assert lines[0].startswith(f"outdated: settings, code, data or packages of {SWEEP} have changed")
    assert lines[1].startswith("values of model.dropout: 0.0, 0.111111111111, 0.222222222222,")
    assert lines[1].endswith("0.888888888889, 1.0 → 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0")


@pytest.mark.parametrize("path", [f"{CLASSIFIER}.tsv", f"sweeps/{SWEEP}.tsv"])
def test_no_table_is_written_from_an_edited_entry(project, path):
    before = contents(Path("results"))
    edit(f"results/official/{path}", "0.", "1.")
    with pytest.raises(SystemExit, match=rf"results/official/{path}, column .* Run `labbook verify`"):
        labbook(["results"])
    assert {name: data for name, data in contents(Path("results")).items() if name.startswith("official.")} == {
        name: data for name, data in before.items() if name.startswith("official.")
    }


def test_a_removed_entry_contradicts_the_tables(verify):
    for path in LEDGER.glob(f"{POINTS}.*"):
        path.unlink()
    code, wrong, _ = verify()
    assert code == 1
    assert any(line.startswith(f"README.md: row {POINTS}, column verdict: ") for line in wrong)
    assert any("expected 'one run, earlier version'" in line for line in wrong)


def test_a_file_without_its_entry_is_reported(verify):
    (LEDGER / f"{POINTS}.json").unlink()
    assert f"results/official/{POINTS}.npz: {POINTS}.json not found beside it" in verify()[1]


def test_a_changed_setting_is_listed_but_is_no_error(verify):
    edit("params.yaml", "- 100\n", "- 99\n")
    code, wrong, lines = verify()
    assert (code, wrong) == (0, [])
    assert lines[:2] == [
        f"outdated: settings, code, data or packages of {CLASSIFIER} have changed since its entry was written:",
        "setting model.hidden: [100] → [99]",
    ]
    assert verify("--strict")[0] == 1


def test_a_changed_model_is_listed_for_the_experiments_that_use_it(verify):
    edit("src/labbook/models/unet.py", "import torch", "import torch\n\nOTHER = 1")
    code, wrong, lines = verify()
    assert (code, wrong) == (0, [])
    assert {"code of train, changed: labbook.models.unet", "code of evaluate, changed: labbook.models.unet"} <= {*lines}
    assert [line for line in lines if line.startswith("outdated: ")] == [
        f"outdated: settings, code, data or packages of {SEGMENTER} have changed since its entry was written:"
    ]


def test_new_and_removed_modules_are_listed(verify):
    (Path("src/labbook/models/extra.py")).write_text("VALUE = 1\n", encoding="utf-8")
    edit("src/labbook/models/unet.py", "import torch", "import labbook.models.extra\nimport torch")
    assert "code of train, new: labbook.models.extra" in verify()[2]
    values = json.loads((LEDGER / f"{SEGMENTER}.json").read_text(encoding="utf-8"))
    values["code"]["train"]["labbook.models.gone"] = "0"
    (LEDGER / f"{SEGMENTER}.json").write_text(json.dumps(values), encoding="utf-8")
    assert "code of train, no longer used: labbook.models.gone" in verify()[2]


def test_several_changes_are_reported_together(verify):
    edit(f"results/official/{CLASSIFIER}.json", '"parameters": 79510', '"parameters": 79511')
    edit(f"results/official/{POINTS}.tsv", "0.05", "0.06")
    edit("results/official.csv", f"{SEGMENTER},E,0.7975", f"{SEGMENTER},E,0.7976")
    edit("params.yaml", "- 100\n", "- 99\n")
    edit("src/labbook/models/unet.py", "import torch", "import torch\n\nOTHER = 1")
    code, wrong, lines = verify()
    assert code == 1
    expected = [
        f"results/official/{CLASSIFIER}.json, key parameters: changed after it was written; its checksum does not match",
        f"results/official/{POINTS}.tsv, column lr: changed after it was written; its checksum does not match",
        f"results/official.csv: row {SEGMENTER}, column reported_test_accuracy: expected '0.7975', found '0.7976'",
        f"README.md: row {CLASSIFIER}, column parameters: expected '79,511', found '79,510'",
    ]
    assert [line for line in expected if line not in wrong] == []
    assert {"setting model.hidden: [100] → [99]", "code of train, changed: labbook.models.unet"} <= {*lines}


def test_a_comment_makes_no_entry_outdated(verify):
    edit("src/labbook/models/unet.py", "import torch", "# A comment.\nimport torch")
    assert verify("--strict")[0] == 0


def test_another_split_and_other_packages_are_listed(verify):
    edit("params.yaml", "mnist:\n    validation_fraction: 0.1", "mnist:\n    validation_fraction: 0.2")
    lock = Path("requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^torch==(\S+)", lock, flags=re.MULTILINE)
    edit("requirements.lock", f"torch=={version}", "torch==9.9.9")
    lines = verify()[2]
    assert "setting datasets.mnist.validation_fraction: 0.1 → 0.2" in lines
    assert f"package torch: {version} → 9.9.9" in lines


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"settings": 1, "code": 1, "packages": 1, "data": 1, "run": 1, "sha256": 1}']
)
def test_a_damaged_entry_is_reported_without_a_traceback(verify, damage):
    (LEDGER / f"{CLASSIFIER}.json").write_bytes(damage)
    code, wrong, _ = verify()
    assert code == 1
    assert f"results/official/{CLASSIFIER}.json: damaged" in wrong[0]


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive"])
def test_damaged_predictions_are_reported_without_a_traceback(verify, damage):
    (LEDGER / f"{CLASSIFIER}.npz").write_bytes(damage)
    code, wrong, _ = verify()
    assert code == 1
    assert f"results/official/{CLASSIFIER}.npz: damaged" in wrong[0]


def test_verify_does_not_import_torch(project):
    script = "import sys; sys.modules['torch'] = sys.modules['dvc'] = None; from labbook.__main__ import main; main(['verify'])"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_one_more_experiment_leaves_all_other_rows_unchanged(project):
    before = Path("results/official.csv").read_text(encoding="utf-8").splitlines()
    run_experiment("mnist_mlp_200", 200, np.random.default_rng(9))
    labbook(["results"])
    after = Path("results/official.csv").read_text(encoding="utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.partition(",")[0] for _, new in changed] == ["mnist_mlp_200"]
    assert changed[0][0] == 'mnist_mlp_200,A,0.9810,0.9815,,1,,"one run, earlier version",,,,,,,,,,,,,official,,,,,'


def entry(first: int = 0, **changes: object) -> Entry:
    values = {"settings": {}, "code": {}, "packages": {}, "data": {}, "run": {"seconds": 1.5}, "classes": ("a", "b")}
    labels = np.arange(first, first + 4, dtype=np.uint8)
    return Entry("x", values | changes, {"labels": labels}, f"seed\tepoch\n{first}\t1\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_entry_is_unchanged_by_writing_and_reading(tmp_path):
    write_entry(entry(), tmp_path)
    read = read_entry("x", tmp_path)
    assert {key: value for key, value in read.values.items() if key != "sha256"} == {**entry().values, "classes": ["a", "b"]}
    assert (read.predictions["labels"].tolist(), read.predictions["labels"].dtype) == ([0, 1, 2, 3], np.uint8)
    assert read.history == "seed\tepoch\n0\t1\n"
    assert contents(tmp_path).keys() == {"x.json", "x.npz", "x.tsv"}


def test_checksums_are_hashes_of_canonical_forms(tmp_path):
    write_entry(entry(settings={"b": 1, "a": [0.5, None]}), tmp_path)
    sums = read_entry("x", tmp_path).values["sha256"]
    assert sums["values"]["settings"] == hashlib.sha256(b'{"a":[0.5,null],"b":1}').hexdigest()
    assert sums["predictions"] == {"labels": hashlib.sha256(b"|u1(4,)\0\1\2\3").hexdigest()}
    assert sums["history"]["epoch"] == hashlib.sha256(b"epoch\n1").hexdigest()
    assert sums["values"].keys() == {"settings", "code", "packages", "data", "run", "classes"}


@pytest.mark.parametrize("change", [{"first": 1}, {"code": {"train": {"labbook.models.mlp": "0"}}}, {"classes": ("a", "c")}])
def test_a_run_with_the_same_result_keeps_the_stored_entry(tmp_path, change):
    write_entry(entry(), tmp_path)
    before = contents(tmp_path)
    write_entry(entry(run={"seconds": 9.5}), tmp_path)
    assert contents(tmp_path) == before
    write_entry(entry(run={"seconds": 9.5}, **change), tmp_path)
    assert read_entry("x", tmp_path).values["run"] == {"seconds": 9.5}


def test_a_damaged_entry_is_rewritten(tmp_path):
    write_entry(entry(), tmp_path)
    before = contents(tmp_path)
    for name in before:
        (tmp_path / name).write_bytes(before[name][:9])
        write_entry(entry(), tmp_path)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("stored", [False, True])
def test_an_interrupted_write_leaves_a_complete_entry_or_none(tmp_path, monkeypatch, stored):
    """The write is interrupted before each change of the folder in turn: a rename, or the removal of the old entry."""
    outcomes = []
    for allowed in range(20):
        folder = tmp_path / str(allowed)
        if stored:
            write_entry(entry(), folder)
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            remaining = [None] * allowed
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, interrupted(getattr(Path, name), remaining))
            write_entry(entry(1), folder)
        if (folder / "x.json").exists():
            found = read_entry("x", folder)
            assert checksums(found) == found.values["sha256"], "old and new files are not mixed"
            outcomes.append(int(found.predictions["labels"][0]))
        else:
            outcomes.append(None)
    assert outcomes == sorted(outcomes, key=[0, None, 1].index), "first the old entry, then none, then the new one"
    assert set(outcomes) == ({0, None, 1} if stored else {None, 1})


def interrupted(step: Callable[..., object], remaining: list[None]) -> Callable[..., object]:
    """Return `step` as a function that works once per entry of `remaining`, and then raises `KeyboardInterrupt`."""

    def run(self: Path, *arguments: object, **keys: object) -> object:
        if self.suffix != ".part":
            if not remaining:
                raise KeyboardInterrupt
            remaining.pop()
        return step(self, *arguments, **keys)

    return run


def test_the_stages_write_an_entry_on_official_data(workdir, edit_params, run_stage, repository):
    """The points are generated, so official data need no download."""
    edit_params(lambda values: values.update(data={"source": "official"}))
    Path("src").symlink_to(repository / "src")
    arguments = ("--source", "official")
    assert run_stage("fetch", "rings", *arguments).returncode == 0
    assert run_stage("prepare", "rings", *arguments, "--validation-fraction", "0.1", "--seed", "0").returncode == 0
    assert run_stage("train", POINTS).returncode == 0
    completed = run_stage("evaluate", POINTS, "--device", "cpu")
    reason = "not found, but an entry of the ledger needs this fingerprint. Run `dvc repro code`."
    assert (completed.returncode, completed.stderr) == (1, f"error: code/prepare/rings.txt: {reason}\n")
    assert not LEDGER.exists()

    write_fingerprints(chosen_modules(), settings_of_stages())
    assert run_stage("evaluate", POINTS, "--device", "cpu").stderr == ""
    found = read_entry(POINTS)
    card = json.loads(Path(f"models/cards/{POINTS}/card.json").read_text(encoding="utf-8"))
    assert {key: found.values[key] for key in card} == card
    assert found.values["data"] == {
        "digest": card["digest"], "settings": {"seed": 0, "datasets.rings": {"validation_fraction": 0.1}}
    }  # fmt: skip
    assert found.values["code"].keys() == {"prepare", "train", "evaluate"}
    assert "labbook.models.mlp" in found.values["code"]["train"]
    assert "labbook.data.datasets.rings" in found.values["code"]["prepare"]
    assert found.values["packages"]["torch"] == found.values["run"]["torch"] == card["torch"]
    assert found.values["run"]["seconds"] > 0
    assert found.history == Path(f"plots/history/{POINTS}.tsv").read_text(encoding="utf-8")
    assert check_experiment(found, LEDGER / POINTS) == []
    before = contents(LEDGER)
    assert run_stage("train", POINTS).returncode == 0
    assert run_stage("evaluate", POINTS, "--device", "cpu").returncode == 0
    assert contents(LEDGER) == before, "the same result leaves the entry unchanged"

    edit(f"timing/{POINTS}.json", '"official"', '"embedded"')
    (LEDGER / f"{POINTS}.json").unlink()
    assert run_stage("evaluate", POINTS, "--device", "cpu").returncode == 0
    assert read_entry(POINTS).values["run"] == {"device": "cpu", "torch": card["torch"]}, (
        "the seconds belong to another training"
    )


def test_an_entry_names_the_stages_behind_derived_data_and_pretrained_weights(project):
    values = read_entry(SEGMENTER).values
    assert values["code"].keys() == {"prepare", "derive", "train", "evaluate"}
    assert "labbook.data.derived.scenes" in values["code"]["derive"]
    assert values["data"]["settings"] == {
        "seed": 0,
        "datasets.mnist": {"validation_fraction": 0.1},
        "derived.scenes": {"made_from": "mnist", "validation_fraction": 0.1, "seed": 0},
    }
    params = read(Path("params.yaml"))
    assert experiment_stages(params, "x", {"dataset": "cifar10", "pretrained": "resnet18"}) == {
        "prepare": "prepare/cifar10", "pretrain": "pretrain/resnet18", "train": "train/x", "evaluate": "evaluate/x",
    }  # fmt: skip


def test_an_entry_names_the_packages_of_every_stage_behind_it(project):
    """The evaluate stage does not import all packages of the other stages."""
    stages = ("prepare/mnist", "derive/scenes", f"train/{SEGMENTER}", f"evaluate/{SEGMENTER}")
    imported = [Fingerprint.from_text(Path(f"code/{stage}.txt").read_text(encoding="utf-8")).packages for stage in stages]
    everything = {name: version for packages in imported for name, version in packages.items()}
    assert everything.keys() > imported[-1].keys()
    assert read_entry(SEGMENTER).values["packages"] == everything


def test_the_report_of_official_data_uses_only_the_ledger(project, run_stage):
    edit("params.yaml", "source: embedded", "source: official")
    (project / "models").mkdir()
    completed = run_stage("report")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert Path("reports/tables/official.csv").read_bytes() == Path("results/official.csv").read_bytes()
    pages = {path.stem for path in Path("reports/experiments").iterdir()}
    assert pages == {CLASSIFIER, SEGMENTER, POINTS}
    front = Path("reports/index.html").read_text(encoding="utf-8")
    assert "one run, earlier version" in front
    assert not list(Path("reports/pictures").rglob("*.png")), "no figures were drawn for these entries"


def test_figures_are_shown_only_with_their_own_run(project):
    def has_pictures() -> bool:
        gathered = gather_ledger()[1]
        found = gathered.by_name[CLASSIFIER].has_pictures
        assert (CLASSIFIER in gathered.explained) == found, "attributions are those of the same weights"
        return found

    explained = {"source": "official", "samples": 1, "notes": [], "methods": {}}
    write_json(Path(f"models/explained/{CLASSIFIER}/explained.json"), explained)
    assert not has_pictures()
    values = json.loads((LEDGER / f"{CLASSIFIER}.json").read_text(encoding="utf-8"))
    card = {key: value for key, value in values.items() if key not in ("code", "packages", "data", "run", "sha256")}
    write_json(Path(f"models/cards/{CLASSIFIER}/card.json"), card)
    assert has_pictures()
    write_json(Path(f"models/cards/{CLASSIFIER}/card.json"), card | {"weights": ["1" * 64] * 5})
    assert not has_pictures(), "figures of another run"
    write_json(Path(f"models/cards/{CLASSIFIER}/card.json"), card | {"source": "embedded"})
    assert not has_pictures(), "figures of other data"


def test_the_results_figure_marks_earlier_runs(project):
    _, gathered = gather_ledger()
    with style():
        drawn = render(draw(gathered), "svg").decode()
    for text in (CLASSIFIER, "mnist_mlp_200", "Assignment A", "ours, one run, earlier version"):
        assert f">{text}</text>" in drawn
    assert f">{SEGMENTER}</text>" not in drawn, "its report measured other data"


def test_the_results_figure_has_the_prediction_interval_of_another_run(project):
    _, gathered = gather_ledger()
    accuracies = [seed["test"]["test_accuracy"] for seed in gathered.by_name[CLASSIFIER].seeds]
    mean = sum(accuracies) / 5
    half = 2.776445 * math.sqrt(sum((one - mean) ** 2 for one in accuracies) / 4) * math.sqrt(1 + 1 / 5)
    lines = draw(gathered).axes[0].lines
    assert list(lines[0].get_xdata()) == pytest.approx([mean - half, mean + half], abs=2e-6)
    positions = [(*line.get_xdata(), *line.get_ydata()) for line in lines[1:]]
    assert positions[0] == (pytest.approx(mean, abs=1e-6), 0)
    assert positions[1:] == [(0.9786, 0), (0.9815, 1), (0.981, 1), (0.9938, 2), (0.9926, 2)], "ours, then what was reported"
    assert [line.get_markerfacecolor() for line in lines[1:4:2]] == ["C0", "white"], "an earlier run is hollow"


@pytest.mark.parametrize(("validation", "reported"), [((), 0.9776), ((0.1,), 0.9786)])
def test_the_results_figure_compares_like_the_tables(validation, reported):
    """The report prints its best and its last epoch; weights after the last step are compared with the last one."""
    drawn = draw(Gathered("official", [make_record("mnist_mlp_100", [0.97], validation=validation)]))
    assert [tuple(line.get_xdata()) for line in drawn.axes[0].lines] == [(0.97,), (reported,)]


def test_the_ledger_of_this_repository_agrees(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert labbook_verify().disagreements == []


def test_missing_and_unexpected_rows_and_different_text_are_reported():
    actual, expected = "# A\n\n| a | b |\n| --- | --- |\n| x | 1 |\n", "# B\n\n| a | b |\n| --- | --- |\n| y | 1 |\n"
    assert list(compare_tables(Path("t.md"), actual, expected)) == [
        "t.md: row y: missing",
        "t.md: row x: not expected",
        "t.md: text: expected '# B', found '# A'",
    ]
    assert list(compare_tables(Path("t.csv"), "a,b\nx,1\ny,2\n", "a,b\ny,2\nx,1\n")) == ["t.csv: the order of the rows differs"]
    assert list(compare_tables(Path("t.csv"), "a,b\nx,1\n", "a,c\nx,1\n")) == [
        "t.csv: header: expected ['a', 'c'], found ['a', 'b']"
    ]
    assert list(compare_tables(Path("t.csv"), "a,b\nx\ny,2,3\n", "a,b\nx,1\ny,2\n")) == [
        "t.csv: row x, column b: expected '1', found ''",
        "t.csv: row y, column : expected '', found '3'",
    ]
    assert list(compare_tables(Path("t.csv"), "a,b\r\nx,1\r\n", "a,b\nx,1\n")) == [
        "t.csv: the formatting of the tables differs"
    ]
