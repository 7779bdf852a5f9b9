"""Run Python programs in forks of one process that has imported slow libraries, such as torch and DVC, and our own modules."""

import json
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

PRELOADED = [
    "labbook.training.experiment", "labbook.repro.parallel", "torch._dynamo", "dvc.cli", "dvc.commands.repro",
    "captum.attr", "matplotlib.backends.backend_agg", "matplotlib.figure", "pandas", "scipy.special", "sklearn.datasets",
]  # fmt: skip
STREAMS = {1: "stdout", 2: "stderr"}
PYTHON = """#!{python} -IS
import json, os, socket, sys
if len(sys.argv) < 2 or not sys.argv[1].endswith(".py"):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("{address}")
    socket.send_fds(connection, [b"."], [0, 1, 2])
    connection.sendall((json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]) + "\\n").encode())
    sys.exit(int(connection.recv(8)))
"""


def forks() -> ForkServerContext:
    """Return the multiprocessing context whose processes are such forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Fork:
    """A running command: `python FILE.py ...`, or `python -m MODULE ...`."""

    def __init__(
        self, target: str, *arguments: str, folder: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._output = TemporaryDirectory()
        self._process = forks().Process(
            target=_run_with_output,
            args=([target, *arguments], folder or Path.cwd(), dict(environment), Path(self._output.name)),
        )
        self._process.start()

    def is_running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        if self._process.pid and self.is_running():
            os.kill(self._process.pid, number)

    def wait(self, seconds: float = 100) -> subprocess.CompletedProcess[str]:
        """Wait until the command ends, and return its exit code and output."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still running after {seconds} s"
        output = {name: (Path(self._output.name) / name).read_text(encoding="utf-8") for name in STREAMS.values()}
        self._output.cleanup()
        return subprocess.CompletedProcess([], self._process.exitcode, **output)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self._process.join()
        self._output.cleanup()


@contextmanager
def fast_python(imports: Path) -> Iterator[str]:
    """Yield a folder with a `python` that runs scripts as forks that import our own modules again.

    Each script writes the files of our modules that it has imported to a file in the folder `imports`.
    """

    lock = threading.Lock()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            process = forks().Process(target=_run_request, args=(self.request, imports))
            # Starting a process polls all others: two threads must not read the exit code of one, for only the first gets it.
            with lock:
                process.start()
            multiprocessing.connection.wait([process.sentinel])
            with lock:
                process.join()
            self.request.sendall(str(process.exitcode).encode())

    with TemporaryDirectory() as folder:
        address, python = f"{folder}/socket", Path(folder) / "python"
        python.write_text(PYTHON.format(python=sys.executable, address=address), encoding="utf-8")
        python.chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
            try:
                yield folder
            finally:
                server.shutdown()


def _run_with_output(command: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    streams = {number: os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for number, name in STREAMS.items()}
    _run(command, folder, environment, streams)


def _run_request(connection: socket.socket, imports: Path) -> None:
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    command, folder, environment = json.loads(connection.makefile().readline())
    for name in [name for name in sys.modules if name.partition(".")[0] == "labbook"]:
        del sys.modules[name]
    try:
        _run(command, folder, environment, dict(enumerate(streams)))
    finally:
        modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "labbook"]
        files = [module.__file__ for module in modules if getattr(module, "__file__", None)]
        (imports / f"{os.getpid()}.json").write_text(json.dumps({"argv": command, "files": files}), encoding="utf-8")


def _run(command: list[str], folder: Path | str, environment: dict[str, str], streams: dict[int, int]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    for number, stream in streams.items():
        os.dup2(stream, number)
    sys.argv = command
    target = command[0]
    if target.endswith(".py"):
        sys.path.insert(0, str(Path(target).resolve().parent))  # as `python FILE.py` does: stages import `_here` from there
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
