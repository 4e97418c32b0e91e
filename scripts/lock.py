"""Writes the lock files: `lock.py UV [--upgrade]`. scripts/lock.sh calls it."""

import subprocess
import sys
from pathlib import Path

CONSTRAINED = ("-c", "requirements.lock")
"""The root lock constrains the others, so that images hold the versions that were tested."""

HASHED = "--generate-hashes"

OLDER_SDKS = ("0.7.4", "0.8.0")
"""Those that tests/clients runs beside the current one."""


def folders() -> list[str]:
    """Return the folders that have an image of their own."""
    lines = [line.split() for line in Path("services/services.txt").read_text().splitlines()]
    return [*(f"services/{words[0]}" for words in lines if words and words[0] != "#"), "resonate-server"]


def compile_lock(uv: str, lock: str, source: str, *options: str, requirement: str = "") -> None:
    """``source``: a file, or "-" for the requirement."""
    print(f"locking {lock}", file=sys.stderr)
    # Our own packages are installed from source.
    own = ["demo-worker", *(folder.replace("services/", "demo-") for folder in folders()), "demo-bench", "demo-harness"]
    spared = [word for package in own for word in ("--no-emit-package", package)]
    flags = ["--quiet", "--universal", "--python-version", "3.12", "--no-emit-index-url"]
    flags.append("--no-annotate")  # Services with the same packages have the same file.
    command = [uv, "pip", "compile", *flags, "--custom-compile-command", "scripts/lock.sh", *spared, *options]
    subprocess.run([*command, "--output-file", lock, source], input=requirement, text=True, check=True)  # noqa: S603


def main(uv: str, *upgrade: str) -> None:
    compile_lock(uv, "requirements.lock", "pyproject.toml", "--group", "dev", HASHED, *upgrade)
    for folder in folders():
        lock, source = f"{folder}/requirements.lock", f"{folder}/pyproject.toml"
        compile_lock(uv, lock, source, "--all-extras", HASHED, *CONSTRAINED, *upgrade)
    for name, *options in (("scripts/uv",), ("tests/mutants/mutmut", *CONSTRAINED)):
        compile_lock(uv, f"{name}.requirements.lock", f"{name}.in", HASHED, *options, *upgrade)
    for version in OLDER_SDKS:
        lock, requirement = f"tests/clients/sdk-{version}.requirements.lock", f"resonate-sdk=={version}"
        compile_lock(uv, lock, "-", HASHED, "--no-deps", requirement=requirement)
    applications = "tests/own/applications"  # its versions are constraints for pip, which takes no hashes there
    compile_lock(uv, f"{applications}.requirements.lock", f"{applications}.in", *CONSTRAINED, *upgrade)


if __name__ == "__main__":
    main(*sys.argv[1:])
