"""The command line, as ``python -m pyagentkey`` and as the program ``agentkey``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .support import Database

PROGRAMS = {"module": [sys.executable, "-m", "pyagentkey"], "program": [str(Path(sys.executable).parent / "agentkey")]}


def start(program: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DATABASE_URL": url, "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        [*PROGRAMS[program], *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run(program: str, url: str, *arguments: str) -> tuple[int, str, str]:
    with start(program, url, *arguments) as process:
        output, error = process.communicate(timeout=60)
    return process.returncode, output, error


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_has_the_commands_of_the_core(program: str, empty_db: Database) -> None:
    assert run(program, empty_db.url, "migrate")[:2] == (0, "The table is complete.\n")
    code, output, error = run(program, empty_db.url, "create", "--account", "acct_1", "--budget-usd", "20")
    assert (code, output[:3], len(output)) == (0, "ak_", 52)
    assert "$20.00 for life" in error
    assert output[3:].strip() not in error
    code, output, error = run(program, empty_db.url, "list", "--json")
    assert (code, error, json.loads(output)[-1]["budgetCents"]) == (0, "", 2000)
    assert "$20.00" in run(program, empty_db.url, "list")[1]
    assert run(program, empty_db.url, "show", "77")[0] == 3
    assert "--account" in run(program, empty_db.url, "create")[2]
    assert run(program, empty_db.url, "doctor", "--json")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell")
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_secret_is_made_that_nobody_gets(program: str, empty_db: Database) -> None:
    def in_shell(arguments: str, redirection: str) -> tuple[int, str]:
        command = f'exec "$@" {arguments} {redirection}'
        environment = {**os.environ, "DATABASE_URL": empty_db.url}
        said = subprocess.run(
            ["sh", "-c", command, "sh", *PROGRAMS[program]],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return said.returncode, said.stderr.decode()

    run(program, empty_db.url, "migrate")
    run(program, empty_db.url, "create", "--account", "a")
    before = run(program, empty_db.url, "list", "--json")[1]
    for arguments in ("create --account a", "rotate 1"):
        code, error = in_shell(arguments, ">&-")
        assert (code, "standard output is closed" in error) == (2, True), error
    assert in_shell("create --account a", ">&- 2>&- <&-")[0] == 2
    assert run(program, empty_db.url, "list", "--json")[1] == before
    # Nothing that is written lands in the connection that has got the stream's number.
    assert in_shell("list --json", ">&-") == (0, "")
    code, error = in_shell("create --account a", ">/dev/full")
    assert (code, "agentkey revoke" in error) == (1, True), error
    assert in_shell("create --account a", ">/dev/null")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_ends_it(empty_db: Database) -> None:
    run("module", empty_db.url, "migrate")
    run("module", empty_db.url, "create", "--account", "acct_1")
    with start("module", empty_db.url, "events", "--follow", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["kind"] == "create"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT
