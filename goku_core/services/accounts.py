"""Secrets of a team's servers as files, and who may reach them: names with a password and a group (infra/compose.yaml).

Passwords are made here and never chosen: 144 random bits need no slow hash, which nginx would compute again for every
request of a page. The folder is readable by its owner alone; the files in it by everybody, because a container sees
them one by one and under another user's number.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import lock

Group = Literal["reader", "writer"]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
RESERVED = {"default", "hostnames", "include", "volatile"}  # words of nginx's map
COST = 5  # of bcrypt; 2 ms (see above). Our choice
PASSWORDS = ("postgres_password", "prefect_database_password", "mlflow_database_password")
HTPASSWD, GROUPS, IDENTITIES = "proxy/htpasswd", "proxy/groups.map", "s3_identities.json"
TOKEN, SHOWN_TOKEN = "serve_token", "proxy/serve.conf"  # of goku serve, and how the proxy shows it
# What each may do with the bucket of the same name, or with the workspace's ("goku").
S3_RIGHTS: Mapping[str, list[str]] = {
    "worker": ["Admin", "Read", "Write", "List", "Tagging"],
    "mlflow": ["Read:mlflow", "Write:mlflow", "List:mlflow", "Tagging:mlflow"],
}


@dataclass(frozen=True)
class Account:
    name: str
    group: Group


def prepare(folder: Path) -> list[str]:
    """Make what is not there yet, never a second time; the names of the new files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "proxy").mkdir(exist_ok=True)
    (folder / "proxy").chmod(
        0o755
    )  # the proxy sees this folder, whatever the umask is; others stop at the one around it
    made: dict[str, Callable[[], str]] = {name: lambda: secrets.token_urlsafe(24) for name in PASSWORDS}
    made |= {HTPASSWD: str, GROUPS: str}
    with lock(folder / ".lock", owner="goku access"):
        new = [name for name in made if not (folder / name).exists()]
        for name in new:
            _write(folder / name, made[name]())
        if not (folder / TOKEN).exists() or not (folder / SHOWN_TOKEN).exists():
            token = secrets.token_urlsafe(32)
            _write(folder / TOKEN, token)
            _write(folder / SHOWN_TOKEN, f'proxy_set_header Authorization "Bearer {token}";\n')
            new += [TOKEN, SHOWN_TOKEN]
        # The users' own files are made from the store's, so that the two always agree.
        if not (folder / IDENTITIES).exists():
            _write(folder / IDENTITIES, json.dumps({"identities": [_identity(who) for who in S3_RIGHTS]}, indent=1))
            new.append(IDENTITIES)
        for one in json.loads((folder / IDENTITIES).read_text())["identities"]:
            name, key = f"s3_{one['name']}", one["credentials"][0]
            if not (folder / name).exists():
                content = f"aws_access_key_id = {key['accessKey']}\naws_secret_access_key = {key['secretKey']}\n"
                _write(folder / name, f"[default]\n{content}")
                new.append(name)
    return new


def grant(folder: Path, name: str, group: Group) -> str:
    """A new password for a name, new or known. Raises `GokuError` for a name that the proxy would read otherwise."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise GokuError(
            f"{name!r} is no name for an account: lower-case letters, digits, dot, dash and underscore, 32 at most"
            + (f"; {name} means something to the proxy." if name in RESERVED else ".")
        )
    password = secrets.token_urlsafe(18)
    with _accounts(folder):
        hashes, groups = _read(folder)
        _store(folder, hashes | {name: _hash(password)}, groups | {name: group})
    return password


def revoke(folder: Path, name: str) -> None:
    """Raises `GokuError` where there is no such account."""
    with _accounts(folder):
        hashes, groups = _read(folder)
        if name not in hashes and name not in groups:
            raise GokuError(f"{name!r} has no account here: {', '.join(sorted(hashes)) or 'nobody has'}.")
        _store(folder, {k: v for k, v in hashes.items() if k != name}, {k: v for k, v in groups.items() if k != name})


def accounts(folder: Path) -> list[Account]:
    """Those with both a password and a group; one without either is let in nowhere."""
    hashes, groups = _read(folder)
    return [Account(name, groups[name]) for name in sorted(hashes) if name in groups]


def _accounts(folder: Path):  # type: ignore[no-untyped-def]
    if not (folder / HTPASSWD).is_file():
        raise GokuError(f"{folder / HTPASSWD} is not there. Say first: goku access prepare --folder {folder}")
    return lock(folder / ".lock", owner="goku access")


def _read(folder: Path) -> tuple[dict[str, str], dict[str, Group]]:
    def pairs(name: str, divider: str) -> list[list[str]]:
        lines = (folder / name).read_text().splitlines() if (folder / name).is_file() else []
        return [line.split(divider, 1) for line in lines if divider in line]

    hashes = {name: text.strip() for name, text in pairs(HTPASSWD, ":")}
    groups: dict[str, Group] = {}
    for name, text in pairs(GROUPS, " "):
        groups[name] = "writer" if text.strip(" ;") == "writer" else "reader"
    return hashes, groups


def _store(folder: Path, hashes: Mapping[str, str], groups: Mapping[str, Group]) -> None:
    """The group first: whoever is let in has one. Killed in between: a group without a password, which opens nothing."""
    _write(folder / GROUPS, "".join(f"{name} {group};\n" for name, group in sorted(groups.items())))
    _write(folder / HTPASSWD, "".join(f"{name}:{text}\n" for name, text in sorted(hashes.items())))


def _identity(who: str) -> dict[str, object]:
    key = {"accessKey": f"goku-{who}-{secrets.token_hex(4)}", "secretKey": secrets.token_urlsafe(30)}
    return {"name": who, "credentials": [key], "actions": S3_RIGHTS[who]}


def _hash(password: str) -> str:
    try:
        import bcrypt
    except ImportError as error:
        raise GokuError("Hashes of passwords need the extra `team`: pip install -e '.[team]'") from error
    # $2y$ is how htpasswd writes the same algorithm, and what every crypt(3) knows.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode().replace("$2b$", "$2y$", 1)


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content)
    temporary.chmod(0o444)
    temporary.replace(path)
