"""Set-up with nothing but Python: the environment, the locked packages, compressed static files.

``python3 services/bootstrap.py [--dev]`` from the Makefile, :func:`enter` from ``bot.py``. Every step prints one line. A
stamp of the lock and the Python version makes the second time immediate. Only the standard library is imported, and the
file can be read by older Pythons, so that they get a clear line instead of a syntax error.
"""

import os
import sys

if sys.path and os.path.realpath(sys.path[0] or ".") == os.path.dirname(os.path.realpath(__file__)):  # noqa: PTH120 - pathlib would be imported from the wrong place
    # Run as a script: this folder comes first on the path, and its http.py would stand for the standard library's.
    sys.path.pop(0)

import shutil

if sys.version_info < (3, 11):  # noqa: UP036 - this is the check that tells people
    better = next((name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)), "")
    hint = f"try: make run PYTHON={better}" if better else "install Python 3.11 or newer, then the same command again"
    sys.exit(f"BotFactory needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: {hint}")

import argparse
import fcntl
import gzip
import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".setup-stamp"
STATIC = ROOT / "web" / "static"
UV = "uv==0.13.8"
COMPRESSED = {".css", ".js", ".svg", ".json", ".txt", ".map", ".webmanifest"}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER_PACKAGES = ("chromium", "fonts-noto-color-emoji")
HEADLESS = "chromium-headless-shell"
"""Debian's Chromium without windows of its own: the same pages for half of the processor time."""


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)  # noqa: T201 - a command; logging is not there yet


def _stop(text: str) -> None:
    sys.exit(f"setup: {text}")


def lock_file(*, dev: bool) -> Path:
    """Return the lock with all that is needed: to run, or to develop and test as well."""
    return ROOT / ("requirements-dev.txt" if dev else "requirements.txt")


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    usable = isinstance(stamp, dict) and PYTHON.exists()
    # A moved or copied environment has the old place in all its commands.
    return stamp if usable and stamp.get("place") == str(VENV) and stamp.get("python") == _python_version() else {}


def _venv_works() -> bool:
    """Tell whether ``.venv``, though nothing says that its set-up ended, is one of this Python and can be completed."""
    program = "import pip, sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        answer = subprocess.run([PYTHON, "-c", program], check=False, capture_output=True, text=True)  # noqa: S603 - our own program
    except OSError:
        return False
    return answer.stdout.strip() == _python_version()


def is_current(*, dev: bool = False) -> bool:
    """Tell whether the environment was made for this lock by this version of Python."""
    lock = lock_file(dev=dev)
    return _read_stamp().get(lock.name) == _digest(lock)


@contextmanager
def _alone() -> Iterator[None]:
    """Let one set-up work at a time; the second waits, and then finds everything done."""
    with lock_file(dev=False).open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], **environment: str) -> bool:
    """Run a command; show what it said only if it failed."""
    try:
        done = subprocess.run(  # noqa: S603 - our own commands, no shell
            [str(part) for part in command],
            cwd=ROOT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
        )
    except OSError as error:
        _say(str(error))
        return False
    if done.returncode:
        _say(f"failed: {' '.join(str(part) for part in command)}")
        sys.stderr.write("\n".join(done.stdout.splitlines()[-15:]) + "\n")
    return done.returncode == 0


def _succeeds(program: str, *arguments: str) -> bool:
    """Tell whether a program that which() found ends well; what it says is not shown."""
    return subprocess.run([program, *arguments], check=False, capture_output=True).returncode == 0  # noqa: S603 - found by which()


def _as_root() -> list[str] | None:
    """Return what to put before a command so that it runs as root without asking; None if it cannot."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and _succeeds(sudo, "-n", "true"):
        return [sudo, "-n"]
    return None


def _apt(packages: Sequence[str]) -> bool:
    """Install Debian packages if that is possible here without asking anybody."""
    prefix = _as_root()
    if prefix is None or not shutil.which("apt-get"):
        return False
    get = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Acquire::Retries=1"]
    return _run([*get, "update"]) and _run([*get, "install", "-y", "--no-install-recommends", *packages])


def _make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        names = (f"python{sys.version_info[0]}.{sys.version_info[1]}-venv", "python3-venv")
        _say(f"installing {names[0]}, without which Python cannot make environments")
        if not any(_apt([name]) for name in names):
            _stop(f"Python here cannot make environments. Type: sudo apt-get install {names[1]}")
    _say(f"making .venv with Python {_python_version()}")
    # Python runs the module afresh: this process does not see an ensurepip that was installed a moment ago.
    if not _run([sys.executable, "-m", "venv", "--clear", VENV]):
        _stop(".venv could not be made, see above")


def _install(lock: Path) -> None:
    """Install what the lock pins, every file checked against its hash."""
    tool = shutil.which("uv") or (str(VENV / "bin" / "uv") if (VENV / "bin" / "uv").exists() else "")
    pip = [str(PYTHON), "-m", "pip"]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if not tool:
        _say(f"installing {UV}")
        if _run([*pip, "install", "--quiet", "--only-binary=:all:", UV], **quiet):
            tool = str(VENV / "bin" / "uv")
    if tool:
        _say(f"installing {lock.name} with uv")
        if _run([tool, "pip", "install", "--quiet", "--python", PYTHON, "--require-hashes", "-r", lock]):
            return
    _say(f"installing {lock.name} with pip, about a minute")
    if not _run([*pip, "install", "--quiet", "--require-hashes", "-r", lock], **quiet):
        _stop(f"{lock.name} could not be installed, see above")


def compress_static() -> int:
    """Put ``x.css.gz`` beside each static ``x.css`` that is newer, remove those whose file is gone; return how many changed."""
    changed = 0
    if not STATIC.is_dir():
        return 0
    for path in sorted(STATIC.rglob("*")):
        if path.suffix == ".gz" and not path.with_suffix("").exists():
            path.unlink()
            changed += 1
        if path.suffix not in COMPRESSED or not path.is_file():
            continue
        target = path.with_name(f"{path.name}.gz")
        if target.exists() and target.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            continue
        partial = target.with_name(f".{target.name}.part")
        partial.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
        partial.replace(target)
        changed += 1
    return changed


def _find_browser() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def _ensure_headless() -> None:
    """Install the quicker browser where Debian knows it; without it the tests use the whole Chromium."""
    known = shutil.which("apt-cache")
    if not known or shutil.which(HEADLESS) or _as_root() is None:
        return
    if _succeeds(known, "show", HEADLESS):
        _say(f"installing {HEADLESS}, in which the tests in a browser are quicker")
        _apt([HEADLESS])


def _has_emoji() -> bool:
    return any(Path("/usr/share/fonts").rglob("NotoColorEmoji*"))


def _ensure_browser() -> None:
    missing = [name for name, there in zip(BROWSER_PACKAGES, (_find_browser(), _has_emoji()), strict=True) if not there]
    if not missing:
        return
    _say(f"installing {' '.join(missing)} for the tests in a browser")
    installed = _apt(missing)
    if not _find_browser():
        line = "!" * 100
        why = "could not be installed" if installed or _as_root() is not None else "is missing"
        _say(line)
        _say(f"Chromium {why}: THE TESTS IN A BROWSER WILL BE SKIPPED. Type: sudo apt-get install {' '.join(missing)}")
        _say(line)


def ensure(*, dev: bool = False) -> Path:
    """Make the environment what the lock says; return its Python. Ends the process with one line if that is impossible."""
    made = not is_current(dev=dev)
    if made:
        with _alone():
            if not is_current(dev=dev):
                stamp = _read_stamp()
                if not stamp:
                    if not _venv_works():
                        _make_venv()
                    stamp = {"python": _python_version(), "place": str(VENV)}
                lock = lock_file(dev=dev)
                _install(lock)
                stamp[lock.name] = _digest(lock)
                if dev:
                    stamp[lock_file(dev=False).name] = _digest(lock_file(dev=False))
                STAMP.write_text(json.dumps(stamp))
                _say("the environment is ready")
    changed = compress_static()
    if changed:
        _say(f"compressed {changed} static files")
    if dev:
        _ensure_browser()
        # Once an environment: whoever has one may have no network any more.
        if made:
            _ensure_headless()
    return PYTHON


def enter(arguments: Sequence[str]) -> None:
    """Return if this Python can run the program, else set it up and become ``.venv``'s Python with these ``arguments``.

    A Python that is not ``.venv``'s but has the packages, as in a container, is left alone.
    """
    if Path(sys.prefix) == VENV:
        if not is_current():
            ensure()
        else:
            compress_static()
        return
    if all(importlib.util.find_spec(name) for name in ("aiogram", "aiohttp", "sqlalchemy", "alembic", "structlog")):
        compress_static()
        return
    python = str(ensure())
    os.execv(python, [python, *arguments])  # noqa: S606 - no shell is wanted


def main() -> None:
    """Read the arguments and set up."""
    parser = argparse.ArgumentParser(description="Makes .venv and installs what the lock says.")
    parser.add_argument("--dev", action="store_true", help="also what the tests need, Chromium included")
    ensure(dev=parser.parse_args().dev)


if __name__ == "__main__":
    main()
