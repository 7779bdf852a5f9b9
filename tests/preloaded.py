"""A `python` for the stages of a pipeline: it runs scripts in forks of one process that has imported torch and the like.

Each script notes which files of ours it had imported at its end; nothing of ours is imported before it begins.
"""

import importlib
import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PRELOADED = (
    "labbook",  # the package alone, which sets the environment that torch's libraries read
    "torch",
    "captum.attr",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "pydantic",
    "sklearn.datasets",
)
ANOTHER = """#!{python} -IS
import json, os, socket, sys
if len(sys.argv) < 2 or not sys.argv[1].endswith(".py"):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as line:
    line.connect("{door}")
    socket.send_fds(line, [b"."], [0, 1, 2])
    line.sendall((json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]) + "\\n").encode())
    sys.exit(int(line.recv(8)))
"""


@contextmanager
def another_python(imports: Path, environment: dict[str, str]) -> Iterator[str]:
    """Give the folder of a `python` that runs scripts so; they note what they imported under `imports`."""
    with TemporaryDirectory() as folder:
        door, python = Path(folder) / "door", Path(folder) / "python"
        python.write_text(ANOTHER.format(python=sys.executable, door=door), encoding="utf-8")
        python.chmod(0o755)
        line = [sys.executable, __file__, str(door), str(imports)]
        with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            try:
                yield folder
            finally:
                server.terminate()


def _serve(door: Path, imports: Path) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    del sys.modules["labbook"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(door))
        listening.listen()
        print("ready", flush=True)
        while True:
            line, _ = listening.accept()
            with line:
                multiprocessing.Process(target=_answer, args=(line, imports)).start()


def _answer(line: socket.socket, imports: Path) -> None:
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    request = json.loads(line.makefile().readline())
    process = multiprocessing.Process(target=_run, args=(streams, *request, imports))
    process.start()
    process.join()
    line.sendall(str(process.exitcode).encode())


def _run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str], imports: Path) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)  # as for a script; `_here` there puts the code of this folder first
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "labbook"]
        files = [module.__file__ for module in ours if getattr(module, "__file__", None)]
        (imports / f"{os.getpid()}.json").write_text(json.dumps({"argv": arguments, "files": files}), encoding="utf-8")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
