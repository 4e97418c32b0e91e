"""PostgreSQL for the stack as processes: `postgres.py FOLDER` serves the database in that folder, and creates it first.

It uses the installed PostgreSQL, on a free loopback port that it keeps. Needs no package.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian installs it, by version; it is not on the PATH."""
END_SECONDS = 20
"""After a kill, the server's connections end one by one; until then it cannot start again."""
HOW = "on Debian: apt-get install postgresql; on a Mac: brew install postgresql@17"


def programs() -> Path:
    """Return the folder with the programs of the newest version. Raises ``SystemExit`` if there is none."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        sys.exit(f"PostgreSQL is not installed ({HOW})")
    return (found[-1] if found else Path(on_path or "").resolve()).parent


def access(folder: Path) -> dict[str, str]:
    """Return port and password, as libpq's variables. They are chosen once, and kept for this user only."""
    file = folder / "access"
    if not file.exists():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        write_privately(file, {"PGPORT": str(port), "PGPASSWORD": secrets.token_hex(16)})
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def write_privately(file: Path, values: dict[str, str]) -> None:
    """Write the file for this user only, and as a whole: no reader ever sees half of it, even if the disk is full."""
    file.parent.mkdir(parents=True, exist_ok=True)
    coming = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        coming.touch(0o600)
        coming.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        coming.replace(file)
    finally:
        coming.unlink(missing_ok=True)


def program(name: str) -> list[str]:
    return [*(as_another_user() if os.geteuid() == 0 else ()), str(programs() / name)]


def as_another_user() -> list[str]:
    """Make root look like another user. PostgreSQL refuses to run as root, or as a user unknown to the system;
    and a real other user may not enter root's folders."""
    other = next(user for user in pwd.getpwall() if user.pw_uid)
    return ["unshare", "--user", f"--map-user={other.pw_uid}", f"--map-group={other.pw_gid}"]


def make(folder: Path, password: str) -> None:
    """Create the database in a folder of its own, completely or not at all."""
    data, coming, secret = folder / "data", folder / "coming", folder / "password"
    if data.exists():
        return
    shutil.rmtree(coming, ignore_errors=True)
    coming.mkdir(0o700)
    secret.touch(0o600)
    secret.write_text(password)
    arguments = ["--username=resonate", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
    subprocess.run([*program("initdb"), f"--pgdata={coming}", *arguments], check=True, cwd="/")  # noqa: S603
    secret.unlink()
    coming.rename(data)


def serve(folder: Path) -> int:
    """Serve until it ends, and return its status."""
    chosen = access(folder)
    make(folder, chosen["PGPASSWORD"])
    options = ["-p", chosen["PGPORT"], "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    command = [*program("postgres"), "-D", str(folder / "data"), *options]
    end = time.monotonic() + END_SECONDS
    while (status := run(command)) and time.monotonic() < end:
        time.sleep(0.2)
    return status


def is_ready(folder: Path) -> bool:
    question = [str(programs() / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={access(folder)['PGPORT']}"]
    return subprocess.run(question, check=False).returncode == 0  # noqa: S603


def run(command: list[str]) -> int:
    database = subprocess.Popen(command, cwd="/")  # noqa: S603
    # SIGINT stops it at once and cleanly; SIGTERM would wait for its clients.
    signal.signal(signal.SIGTERM, lambda *_: database.send_signal(signal.SIGINT))
    return database.wait()


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]).absolute()))
