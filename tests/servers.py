"""Servers that a team's remote may lie on: OpenSSH's and one that speaks S3, each on loopback, with keys of its own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def await_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


class SshServer:
    """OpenSSH's server; `home` is that of its only user, the one who runs the tests, with keys in .ssh."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.home = folder / "home"
        keys = self.home / ".ssh"
        keys.mkdir(parents=True)
        for key in (folder / "host_key", keys / "id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = (keys / "id_ed25519.pub").read_text()
        (folder / "authorized_keys").write_text(public)
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        self.known_host = f"[127.0.0.1]:{self.port} {kind} {key}\n"
        (keys / "known_hosts").write_text(self.known_host)
        self.config = folder / "sshd_config"
        self.config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"Subsystem sftp internal-sftp\nUsePAM {'yes' if os.geteuid() == 0 else 'no'}\nMaxStartups 100\nMaxSessions 100\n"
        )
        self.start()

    @property
    def address(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(self.config)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        await_port(self.port)

    def kill(self) -> None:
        """End the server and all its connections at once, as when its machine fails."""
        import psutil

        for process in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Start a server that holds everything in memory; its address is given."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await_port(port)
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/labbook", method="PUT")).close()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
