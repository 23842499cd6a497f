"""`nlp-al server` as its user meets it: what it prints, what it keeps, who may log in, and what outlives what."""

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("argilla_server")

import httpx
from servers import free_port

from nlp_al.argilla_server import home as home_module
from nlp_al.argilla_server.home import Home
from nlp_al.cli import main


def run(*words: object, status: int = 0) -> str:
    """What `nlp-al server` printed; stderr where it failed."""
    command = [sys.executable, "-m", "nlp_al.cli", "server", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if status else done.stdout


def passwords(printed: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S+) +(\w{4}(?:-\w{4}){3})  \w+$", printed, re.MULTILINE))


class Server:
    """One on a folder of its own, with the accounts that its first start told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.passwords = passwords(self.up("--annotators", 2))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=30)

    def up(self, *words: object) -> str:
        return run("up", "--data", self.folder, "--port", self.port, *words)

    def log_in(self, name: str, password: str) -> httpx.Response:
        return self.http.post("/token", data={"username": name, "password": password})

    def me(self, token: str) -> httpx.Response:
        return self.http.get("/me", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "data")
    yield made
    run("down", "--data", made.folder)


def test_the_first_start_tells_each_password_once(server):
    assert sorted(server.passwords) == ["annotator-1", "annotator-2", "owner"]
    assert len({*server.passwords.values()}) == 3
    again = server.up("--annotators", 2)
    assert again == f"Argilla is up already at http://127.0.0.1:{server.port}\n"
    kept = [file for file in server.folder.iterdir() if file.is_file()]
    assert not any(p.encode() in file.read_bytes() for p in server.passwords.values() for file in kept)


def test_everybody_can_log_in_and_nobody_else(server):
    for name, password in server.passwords.items():
        token = server.log_in(name, password).json()["access_token"]
        told = server.me(token).json()
        assert (told["username"], told["role"]) == (name, "owner" if name == "owner" else "annotator")
        assert server.log_in(name, password[:-1] + "!").status_code == 401
    for name, password in [("argilla", "1234"), ("argilla", "12345678"), ("admin", "12345678")]:
        assert server.log_in(name, password).status_code == 401
    for key in ["argilla.apikey", "admin.apikey", "owner.apikey", ""]:
        assert server.http.get("/me", headers={"X-Argilla-Api-Key": key}).status_code == 401


def test_programs_take_the_key_from_the_folder(server):
    home = Home(server.folder)
    for name in server.passwords:
        told = server.http.get("/me", headers={"X-Argilla-Api-Key": home.api_key(name)}).json()
        assert told["username"] == name
    workspaces = server.http.get("/me/workspaces", headers={"X-Argilla-Api-Key": home.api_key("annotator-1")})
    assert [item["name"] for item in workspaces.json()["items"]] == ["nlp-al"]


def test_nobody_else_may_read_what_is_kept(server):
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert {"argilla.db", "argilla.db-wal", "argilla.db-shm", "secret", "server.log"} <= {path.name for path in files}
    assert [path for path in files if path.parent == server.folder and stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_it_answers_on_this_machine_alone(server):
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    addresses = {line.split()[1].split(":")[0] for line in listening if line.split()[1].endswith(f":{server.port:04X}")}
    assert addresses == {"0100007F"}  # 127.0.0.1, least byte first
    foreign = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in server.http.options("/me", headers=foreign).headers


def test_what_it_tells_itself_of_telemetry(server):
    told = Home(server.folder).environment()
    assert (told["ARGILLA_ENABLE_TELEMETRY"], told["HF_HUB_DISABLE_TELEMETRY"]) == ("false", "1")


def test_a_login_outlives_a_restart_and_a_kill(server):
    token = server.log_in("annotator-1", server.passwords["annotator-1"]).json()["access_token"]
    assert run("down", "--data", server.folder) == "Argilla is down.\n"
    assert run("down", "--data", server.folder) == "Argilla was not up.\n"
    assert run("status", "--data", server.folder).startswith("down\n3 users, ")
    start = time.monotonic()
    assert server.up() == f"Argilla is up at http://127.0.0.1:{server.port}\n"
    assert time.monotonic() - start < 30  # 4 s on a machine that does nothing else
    assert server.me(token).status_code == 200
    running = Home(server.folder).running()
    os.kill(running.pid, signal.SIGKILL)
    while Home(server.folder).running():
        time.sleep(0.05)
    assert run("status", "--data", server.folder).startswith("down\n")
    server.up()
    assert server.me(token).status_code == 200
    assert re.match(
        rf"up at http://127\.0\.0\.1:{server.port}, process \d+, since 2\d{{3}}-\d\d-\d\dT\S+\n",
        run("status", "--data", server.folder),
    )


def test_people_come_and_forget_their_passwords(server):
    new = passwords(run("user", "add", "zoë", "--data", server.folder))
    token = server.log_in("zoë", new["zoë"]).json()["access_token"]
    assert server.me(token).json()["role"] == "annotator"
    key = Home(server.folder).api_key("zoë")
    fresh = passwords(run("user", "reset", "zoë", "--data", server.folder))
    assert server.log_in("zoë", new["zoë"]).status_code == 401
    assert server.log_in("zoë", fresh["zoë"]).status_code == 201
    assert server.http.get("/me", headers={"X-Argilla-Api-Key": key}).status_code == 401
    listed = run("user", "list", "--data", server.folder)
    assert listed.splitlines()[0].split() == ["owner", "owner", "0", "answers"]
    assert re.search(r"^zoë +annotator +0 answers$", listed, re.MULTILINE)


def test_more_annotators_later(server):
    assert list(passwords(server.up("--annotators", 3))) == ["annotator-3"]
    assert passwords(server.up("--annotators", 1)) == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["user", "add", "owner"], "There is a user 'owner' already; nlp-al server user reset makes a new password."),
        (["user", "add", " "], "' ' can't be a user's name: 1 to 60 characters, no spaces at the ends."),
        (["user", "reset", "nobody"], "There is no user 'nobody'; the users are owner, annotator-1, "),
        (["up", "--port", "0"], "--port is 0; it must be from 1 to 65535."),
        (["up", "--annotators", "-1"], "--annotators is -1; it must be 0 or more."),
    ],
)
def test_a_mistake_is_told_in_a_sentence(server, words, told):
    assert run(*words, "--data", server.folder, status=2).startswith(f"error: {told}")


def test_another_port_while_it_is_up(server):
    told = run("up", "--data", server.folder, "--port", free_port(), status=1)
    assert told.startswith(f"error: The server of {server.folder} is up at http://127.0.0.1:{server.port} already; ")


def test_a_port_that_is_taken(server, tmp_path):
    told = run("up", "--data", tmp_path / "other", "--port", server.port, status=1)
    assert told == (
        f"error: Port {server.port} on 127.0.0.1 is taken by another program; choose another with --port.\n"
    )
    assert not (tmp_path / "other").exists()


def test_an_address_of_another_machine(tmp_path):
    told = run("up", "--data", tmp_path / "other", "--host", "192.0.2.1", status=2)
    assert told == "error: --host 192.0.2.1 is no address of this machine.\n"


def test_a_backup_is_a_server_of_its_own(server, tmp_path):
    copy = tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()
    assert run("backup", copy, "--data", server.folder) == f"{copy} holds all records, answers and accounts.\n"
    run("backup", copy, "--data", server.folder)  # the next one takes its place
    assert [path.name for path in copy.parent.iterdir()] == ["monday.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    folder = tmp_path / "again"
    folder.mkdir()
    copy.rename(folder / "argilla.db")
    other = free_port()
    assert passwords(run("up", "--data", folder, "--port", other, "--annotators", 2)) == {}
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{other}/api/v1/token",
            data={"username": "owner", "password": server.passwords["owner"]},
            timeout=30,
        )
        assert answer.status_code == 201
    finally:
        run("down", "--data", folder)


def test_a_backup_into_no_folder(server, tmp_path):
    told = run("backup", tmp_path / "no" / "copy.db", "--data", server.folder, status=1)
    assert told == f"error: No such file or directory: {tmp_path / 'no' / 'copy.db.new'}.\n"


def test_a_folder_without_a_server(tmp_path):
    for words in (["status"], ["down"], ["user", "list"], ["user", "add", "ann"], ["backup", "file"]):
        told = run(*words, "--data", tmp_path, status=2)
        assert told == (
            f"error: {tmp_path} holds no Argilla server: nlp-al server up --data {tmp_path} starts one there.\n"
        )


def test_a_folder_of_another_version(tmp_path):
    with closing(sqlite3.connect(tmp_path / "argilla.db")) as database, database:
        database.execute("CREATE TABLE nlp_al_about (argilla TEXT)")
        database.execute("INSERT INTO nlp_al_about VALUES ('2.7')")
    told = run("up", "--data", tmp_path, "--port", free_port(), status=1)
    assert told == (
        f"error: {tmp_path} was made with argilla-server 2.7, and 2.8 is installed: "
        'pip install "argilla-server==2.7.*", or take another folder.\n'
    )


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be read as one" * 20])
def test_a_file_that_is_no_database_of_ours(tmp_path, content):
    (tmp_path / "argilla.db").write_bytes(content)
    told = run("up", "--data", tmp_path, "--port", free_port(), status=1)
    assert told.startswith(f"error: {tmp_path / 'argilla.db'} is no database of nlp-al server (")
    assert (tmp_path / "argilla.db").read_bytes() == content


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("")
    told = run("up", "--data", tmp_path / "data", "--port", free_port(), status=1)
    assert told == f"error: {tmp_path / 'data'} can't be made: a file is in the way.\n"


def test_two_first_starts_at_once(tmp_path):
    with Home(tmp_path).held():
        told = run("up", "--data", tmp_path, "--port", free_port(), status=1)
    assert told == f"error: {tmp_path} is in use by another server or by one that is being started.\n"


def test_a_first_start_that_was_killed(tmp_path):
    (tmp_path / "argilla.db.new").write_bytes(b"half of it")
    (tmp_path / "running.json").write_text(json.dumps({"host": "127.0.0.1", "port": 1, "pid": 1, "since": "long ago"}))
    port = free_port()
    assert "owner" in passwords(run("up", "--data", tmp_path, "--port", port))
    run("down", "--data", tmp_path)
    assert not (tmp_path / "argilla.db.new").exists()


def test_on_all_addresses_it_warns(tmp_path):
    port = free_port()
    printed = run("up", "--data", tmp_path, "--port", port, "--host", "0.0.0.0")
    run("down", "--data", tmp_path)
    assert "warning: on 0.0.0.0 everybody who reaches this machine reaches the log-in page" in printed
    assert printed.endswith(f"Argilla is up at http://127.0.0.1:{port}\n")


def test_in_the_foreground_it_stays_until_it_is_told(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "nlp_al.cli", "server", "up", "--data", tmp_path, "--port", port, "--foreground"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (found := Home(tmp_path).running()) and time.monotonic() < end:
            time.sleep(0.1)
        assert found.pid == process.pid
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "owner" in passwords(printed)
    assert printed.endswith(f"Argilla starts at http://127.0.0.1:{port}\n")


def test_without_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(home_module, "PACKAGES", ("no-such-package",))
    assert main(["server", "up", "--data", str(tmp_path / "data")]) == 2
    assert capsys.readouterr().err == 'error: The Argilla server needs an extra: pip install "nlp-al[server]".\n'
    assert not (tmp_path / "data").exists()
