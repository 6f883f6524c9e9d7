"""Accounts of the proxy: `goku access`."""

from __future__ import annotations

import os

import bcrypt
import pytest
from typer.testing import CliRunner

from goku_core.cli_access import access
from goku_core.pipeline.errors import GokuError
from goku_core.services import accounts


@pytest.fixture
def folder(tmp_path):
    before = os.umask(0o077)
    accounts.prepare(tmp_path / "secrets")
    os.umask(before)
    return tmp_path / "secrets"


def test_prepare_makes_secrets_once(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert accounts.prepare(folder) == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert folder.stat().st_mode & 0o077 == 0, "nobody else of this machine may enter"
    for path in folder.rglob("*"):
        if not path.name.startswith("."):
            assert path.stat().st_mode & (0o005 if path.is_dir() else 0o004), f"a container may not read {path.name}"
    passwords = [(folder / name).read_text() for name in accounts.PASSWORDS]
    assert len(set(passwords)) == 3 and all(len(one) >= 32 for one in passwords)
    (folder / accounts.PASSWORDS[0]).unlink()
    assert accounts.prepare(folder) == [accounts.PASSWORDS[0]]


def test_a_password_is_shown_once_and_kept_as_a_hash(folder):
    password = accounts.grant(folder, "anna", "writer")
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert password.encode() not in everything and len(password) >= 24
    (line,) = (folder / accounts.HTPASSWD).read_text().splitlines()
    name, hashed = line.split(":")
    assert name == "anna" and bcrypt.checkpw(password.encode(), hashed.encode())
    assert accounts.grant(folder, "anna", "reader") != password
    assert accounts.accounts(folder) == [accounts.Account("anna", "reader")]


def test_revoked_is_gone_from_both_files(folder):
    accounts.grant(folder, "anna", "writer")
    accounts.grant(folder, "ben", "reader")
    accounts.revoke(folder, "anna")
    assert [one.name for one in accounts.accounts(folder)] == ["ben"]
    assert "anna" not in (folder / accounts.GROUPS).read_text() + (folder / accounts.HTPASSWD).read_text()
    with pytest.raises(GokuError, match="no account"):
        accounts.revoke(folder, "anna")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Anna",
        "an na",
        "a:b",
        "a;b",
        "default",
        "include",
        "hostnames",
        "volatile",
        "~x",
        "a\nb",
        "-a",
        "a" * 33,
        "$x",
        '"',
    ],
)
def test_names_that_a_file_would_read_otherwise_are_refused(folder, name):
    with pytest.raises(GokuError, match="no name"):
        accounts.grant(folder, name, "reader")
    assert (folder / accounts.HTPASSWD).read_text() == ""


def test_without_secrets_it_says_what_to_do(tmp_path):
    with pytest.raises(GokuError, match="goku access prepare"):
        accounts.grant(tmp_path, "anna", "reader")


def test_command_line(tmp_path):
    runner, place = CliRunner(), ["--folder", str(tmp_path / "s")]
    assert "new files" in runner.invoke(access, ["prepare", *place]).output
    granted = runner.invoke(access, ["grant", "anna", "--group", "writer", *place])
    assert len(granted.stdout.strip()) >= 24
    assert '"group": "writer"' in runner.invoke(access, ["list", "--json", *place]).stdout
    assert isinstance(runner.invoke(access, ["grant", "ben", "--group", "root", *place]).exception, GokuError)
    assert runner.invoke(access, ["revoke", "anna", *place]).exit_code == 0
