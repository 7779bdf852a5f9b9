"""The history file, and the progress display."""

import io

from labbook.training import progress
from labbook.training.history import Row, write_history
from labbook.training.progress import show_progress

ROWS = [Row(1, 5, 0.1, 1.0, 0.5), Row(2, 10, 0.1, 0.5, 0.75, 0.6, 0.625)]


def test_history_has_one_line_per_row_and_empty_cells_for_missing_metrics(tmp_path):
    rows = [Row(1, 5, 0.1 + 0.2, 1.23456789, 0.5), Row(2, 10, 1e-05, 1 / 3, 1.0, 0.25, 0.75, 2.0, 2 / 3)]
    write_history(tmp_path / "history.tsv", {7: rows, 8: rows[:1]})
    assert (tmp_path / "history.tsv").read_text(encoding="utf-8") == (
        "seed\tepoch\tstep\tlr\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\ttest_loss\ttest_accuracy\n"
        "7\t1\t5\t0.30000000000000004\t1.234568\t0.5\t\t\t\t\n"
        "7\t2\t10\t1e-05\t0.333333\t1.0\t0.25\t0.75\t2.0\t0.666667\n"
        "8\t1\t5\t0.30000000000000004\t1.234568\t0.5\t\t\t\t\n"
    )


def test_progress_without_a_terminal_prints_a_line_every_few_seconds_and_at_the_end(capsys, monkeypatch):
    def run():
        with show_progress("x", 10) as show:
            show(5, ROWS[0])
            show(7, None)
            show(10, ROWS[1])
        return capsys.readouterr().out

    last_line = "x: step 10 of 10, epoch 2, train 0.7500, val 0.6250\n"
    assert run() == last_line
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1)
    assert run() == "x: step 5 of 10, epoch 1, train 0.5000\n" + last_line


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("my_experiment", 10) as show:
        show(2, None)
        show(10, ROWS[1])
    shown = terminal.getvalue()
    assert "my_experiment" in shown
    assert "epoch 2, train 0.7500, val 0.6250" in shown
