"""infra/compose.yaml by what must hold of it, whoever edits it. A container engine is not needed (and not here)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from team_servers import INFRA, compose
from typer.main import get_command

from goku_core.cli import COMMANDS
from goku_core.cli import app as cli
from goku_core.services import accounts, servers

ROOT = INFRA.parent
FILE = compose()
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
HOLDS_DATA = {"postgres", "s3"}
NAMES = sorted(SERVICES)


def text_of(service: str) -> str:
    return yaml.safe_dump(SERVICES[service])


def test_only_the_proxy_is_reachable_and_only_from_this_machine() -> None:
    assert {name for name, one in SERVICES.items() if one.get("ports") or one.get("expose")} == {"proxy"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["proxy"]["ports"])
    assert not any("network_mode" in one or "privileged" in one or "pid" in one for one in SERVICES.values())
    inner = {name for name, network in FILE["networks"].items() if (network or {}).get("internal")}
    assert set(FILE["networks"]) - inner == {"outside"}
    assert {name for name, one in SERVICES.items() if "outside" in one["networks"]} == {"proxy"}


def test_other_addresses_only_with_a_certificate() -> None:
    proxy = compose("compose.tls.yaml")["services"]["proxy"]
    assert proxy["environment"]["GOKU_TRANSPORT"] == "tls"
    listens = {name: value for name, value in proxy["environment"].items() if name.endswith("_LISTEN")}
    assert set(listens) == {name for name in SERVICES["proxy"]["environment"] if name.endswith("_LISTEN")}
    assert all(value.endswith(" ssl") for value in listens.values())
    assert len(proxy["ports"]) == len(SERVICES["proxy"]["ports"])
    assert any(":?" in volume and "/etc/nginx/certificates" in volume for volume in proxy["volumes"])


@pytest.mark.parametrize("name", NAMES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True and one["cap_drop"] == ["ALL"] and one["security_opt"] == ["no-new-privileges:true"]
    user = one["user"].replace("${GOKU_UID:-1000}", "1000").replace("${GOKU_GID:-1000}", "1000")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "by number: names may mean root in another image"
    assert not any("docker.sock" in str(volume) for volume in one.get("volumes", []))
    written = [volume for volume in one.get("volumes", []) if str(volume).startswith("./")]
    assert all(volume.endswith(":ro") for volume in written), written


@pytest.mark.parametrize("name", NAMES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if SERVICES[name].get("build"):
        assert "GOKU_IMAGE" in image  # ours, built from this very commit, or named whole by whoever deploys
        return
    assert re.fullmatch(r"docker\.io/[a-z/-]+:\d+\.\d+(\.\d+)?@\$\{[A-Z0-9_]+_DIGEST:\?[^}]+\}", image)


def test_digests_are_asked_for_every_foreign_image(tmp_path: Path) -> None:
    """The script, with a stand-in for docker that answers what a registry would."""
    (tmp_path / "docker").write_text('#!/bin/sh\nfor last; do :; done\nprintf "sha256:%064d\\n" "${#last}"\n')
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = subprocess.run([INFRA / "digests"], env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    digests = dict(line.split("=", 1) for line in told.splitlines())
    wanted = {found for one in SERVICES.values() for found in re.findall(r"@\$\{([A-Z0-9_]+):", one["image"])}
    assert set(digests) == wanted and len(wanted) == 3
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests.values())
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'no such image'\n")
    assert subprocess.run([INFRA / "digests"], env={"PATH": path}, capture_output=True).returncode != 0


def test_secrets_are_files_that_are_made_and_never_committed(tmp_path: Path) -> None:
    accounts.prepare(tmp_path / "secrets")
    for name, secret in FILE["secrets"].items():
        place = secret["file"].removeprefix("./")
        assert (tmp_path / place).is_file(), f"goku access prepare does not make {name}"
    used = {name for one in SERVICES.values() for name in one.get("secrets", [])}
    assert used <= set(FILE["secrets"])
    tracked = subprocess.run(["git", "ls-files", "infra"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not re.search(r"^infra/(secrets|\.env)", tracked, re.MULTILINE)
    ignored = subprocess.run(
        ["git", "check-ignore", "infra/secrets/s3_worker", "infra/.env"], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout.split() == ["infra/secrets/s3_worker", "infra/.env"]


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|AUTH|KEY|CREDENTIALS", variable):
            assert str(value).startswith("/run/secrets/"), f"{variable} by reference"
            assert Path(str(value)).name in SERVICES[name]["secrets"], f"{variable}: not given to {name}"
        assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value)), f"{variable} has a password in an address"


def test_the_workspace_is_named_and_is_not_the_folder_that_holds_the_secrets() -> None:
    """Runs read and write all of it: by default it would be this repository, with infra/secrets and this very file."""
    at_work = {name: v for name, one in SERVICES.items() for v in one.get("volumes", []) if v.endswith(":/work")}
    assert set(at_work) == {"deployments", "worker", "serve"}
    assert all(volume.startswith("${GOKU_WORKSPACE:?") for volume in at_work.values())


def test_each_gets_only_its_own_secrets() -> None:
    given = {name: set(one.get("secrets", [])) for name, one in SERVICES.items()}
    assert {name for name, secrets in given.items() if "postgres_password" in secrets} == {"postgres"}
    assert {name for name, secrets in given.items() if "s3_identities" in secrets} == {"s3"}
    assert given["mlflow"] == {"mlflow_database_password", "s3_mlflow"}
    assert given["prefect"] == {"prefect_database_password"} and given["worker"] == {"s3_worker"}


def test_databases_are_on_a_network_that_neither_the_proxy_nor_the_workers_see() -> None:
    on = {name: set(one["networks"]) for name, one in SERVICES.items()}
    assert {name for name, networks in on.items() if "databases" in networks} == {"postgres", "prefect", "mlflow"}
    assert not on["proxy"] & set().union(*(on[name] for name in HOLDS_DATA))
    assert on["postgres"] == {"databases"} and on["s3"] == {"objects"}


@pytest.mark.parametrize("name", NAMES)
def test_health_and_order(name: str) -> None:
    one = SERVICES[name]
    if one["restart"] == "no":
        assert "healthcheck" not in one
    else:
        assert one["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL") and one["restart"] == "unless-stopped"
    for other, wanted in one.get("depends_on", {}).items():
        once = SERVICES[other]["restart"] == "no"
        assert wanted["condition"] == ("service_completed_successfully" if once else "service_healthy")


@pytest.mark.parametrize("name", [name for name in NAMES if SERVICES[name].get("build")])
def test_commands_exist_in_our_image(name: str) -> None:
    one = SERVICES[name]
    dockerfile = (ROOT / "Dockerfile").read_text()
    for word in one["entrypoint"]:
        file = INFRA / word
        assert file.stat().st_mode & stat.S_IXUSR and f"infra/{word}" in dockerfile
    program, *words = one["command"]
    assert shutil.which(program), program
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
    if program == "goku":
        if words[0] not in COMMANDS:
            pytest.skip(f"goku {words[0]} is not part of this version")
        get_command(cli).get_command(None, words[0]).make_context(words[0], [str(word) for word in words[1:]])  # type: ignore[arg-type]


def test_an_upload_that_the_proxy_lets_through_has_a_place_on_the_disk() -> None:
    """MLflow keeps a whole file in its temporary folder before it sends it on; /tmp is memory, and small."""
    mlflow = SERVICES["mlflow"]
    volume, place = mlflow["volumes"][0].split(":")
    assert volume in FILE["volumes"] and mlflow["environment"]["TMPDIR"] == place
    made = re.search(r"install -d -m 1777 (.*)", (ROOT / "Dockerfile").read_text())
    assert made and place in made[1].split(), "whoever it runs as may write there"


def test_settings_are_those_of_goku_up(tmp_path: Path) -> None:
    """What `goku up` sets for safety, a team's servers have as well: by the file, or by the image."""
    image = (ROOT / "Dockerfile").read_text()
    for server, prefix in {"prefect": "PREFECT_", "mlflow": "MLFLOW_"}.items():
        given = SERVICES[server]["environment"]
        for name, value in servers.QUIET.items():
            if name.startswith((prefix, "DO_NOT")):
                assert given.get(name) == value or f"{name}={value}" in image
    pages = "PREFECT_UI_API_URL"
    assert servers.environment(tmp_path, "http://127.0.0.1:4200/api")[pages] == "/api", "as seen from elsewhere too"
    assert SERVICES["prefect"]["environment"][pages] == "/api"
    assert SERVICES["prefect"]["environment"]["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    assert SERVICES["worker"]["environment"]["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"


def test_places_of_killed_trainings_are_free_again_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """Their leases are files, and the files are not the container's own."""
    lease, home = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", SERVICES["prefect"]["environment"]["PREFECT_HOME"]
    assert SERVICES["prefect"]["environment"][lease] == servers.environment(tmp_path, "")[lease]
    (volume,) = (one.split(":")[0] for one in SERVICES["prefect"]["volumes"] if one.split(":")[1] == home)
    assert volume in FILE["volumes"]
    made = (ROOT / "Dockerfile").read_text()
    assert home in next(line for line in made.splitlines() if "install -d -m 1777" in line).split(), (
        "owner and mode of the image's folder"
    )


def test_every_pool_of_a_deployment_has_a_worker() -> None:
    program, *words = SERVICES["worker"]["command"][1:]
    assert (program, words[0]) == ("-m", "flows.worker")
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    wanted = {one["work_pool"]["name"] for one in declared}
    assert set(words[1 : words.index("--name")]) == wanted == set(servers.POOLS)


def test_secrets_reach_a_program_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('planted$(id) `id` "x"\n')
    run = INFRA / "with-secrets"

    def told(**env: str) -> subprocess.CompletedProcess[str]:
        words = [
            str(run),
            "sh",
            "-c",
            'printf "%s|%s|%s" "$PGPASSWORD" "${PGPASSWORD_FILE:-gone}" "${SSL_CERT_FILE:-}"',
        ]
        return subprocess.run(words, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True)

    given = {"PGPASSWORD_FILE": str(tmp_path / "secret"), "SSL_CERT_FILE": "/etc/x.pem"}
    assert told(**given).stdout == 'planted$(id) `id` "x"|gone|/etc/x.pem'
    missing = told(PGPASSWORD_FILE=str(tmp_path / "nothing"))
    assert missing.returncode == 78 and "cannot be read" in missing.stderr and not missing.stdout
    (tmp_path / "secret").write_text("")
    assert told(**given).returncode == 78
