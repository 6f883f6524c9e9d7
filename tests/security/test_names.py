"""Names that come with data lead nowhere: sample ids, shards, bundles, members of archives, phases, studies, media."""

from __future__ import annotations

import json
import tarfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from latent_workspace import make_workspace
from promote_workspace import candidate, promoted

from goku_core.collect.download.cache import name_of
from goku_core.config import Params, load_params
from goku_core.dataset import webdataset
from goku_core.evaluate import manifest
from goku_core.evaluate.manifest import Prompt
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.names import is_plain
from goku_core.promote import bundle
from goku_core.shards.reader import ShardReader

ROOT = Path(__file__).resolve().parents[2]
KNOWN = [
    "../x", "../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "", "a/b", "a\\b", "..\\x", "x\0y", "x\ny", " x", "x ",
    "-rf", "\udc80", "x" * 400, "a/.", "//x", "\u202ex",
]  # fmt: skip
PARTS = st.sampled_from(["..", ".", "a", "/", "//", "\\", "\0", "\n", "~", "etc", " ", "-"])
NASTY = st.one_of(st.sampled_from(KNOWN), st.lists(PARTS, min_size=1, max_size=5).map("".join), st.text(max_size=20))
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@given(NASTY)
@settings(max_examples=300, deadline=None)
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    """Judged by the path itself, not by the rule again."""
    place = Path("/folder/inner")
    if is_plain(name):
        assert (place / name).resolve().parent == place and Path(name).name == name
        assert len(f"{name}.safetensors".encode()) < 255 and "\0" not in name


@pytest.mark.parametrize("name", KNOWN)
def test_known_tricks_are_no_plain_names(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize(
    "name", ["a", "geneval-00012-3", "train@joint_low", "ab.cd", "größe", "名前", "a b", "x" * 200]
)
def test_names_that_people_use_are(name: str) -> None:
    assert is_plain(name)


@given(NASTY)
@settings(max_examples=100, deadline=None)
def test_files_of_addresses(name: str) -> None:
    """Nothing of an address reaches the name of the file that it is kept under (archives are never unpacked)."""
    assume("\udc80" not in name)
    kept = name_of(f"https://host.example/{name}?{name}")
    assert is_plain(kept) and name_of("https://host.example/other") != kept


@FEW
@given(NASTY)
def test_sample_ids_of_a_manifest(tmp_path: Path, name: str) -> None:
    assume("\udc80" not in name and not is_plain(f"{name}-0"))
    prompt = Prompt(name, "a circle", "", ("d",))
    file = tmp_path / "manifest.parquet"
    manifest.write(file, manifest.plan("b", "image", [prompt], 1, seed=0))
    with pytest.raises(GokuError, match="no plain name"):
        manifest.read(file)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("latents")) / "data/latents/low"


@FEW
@given(NASTY)
def test_shards_of_an_index(latents: Path, tmp_path: Path, name: str) -> None:
    assume("\udc80" not in name and not is_plain(name))
    table = pq.read_table(latents / "index.parquet")
    column = table.column_names.index("shard")
    pq.write_table(table.set_column(column, "shard", pa.array([name] * len(table))), tmp_path / "index.parquet")
    with pytest.raises(GokuError, match="no plain name"):
        ShardReader(tmp_path)


@dataclass
class Version:
    """What an export reads of a version of the data set."""

    rows: list[dict[str, Any]]
    id: str = "0123"

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows)


@FEW
@given(NASTY)
def test_members_of_an_export(kept_media: Path, tmp_path: Path, name: str) -> None:
    """Others unpack these archives, some with tools that look at nothing."""
    assume("\udc80" not in name and not is_plain(f"{name}_0_0"))
    row = pq.read_table(kept_media / "data/clips.parquet").to_pylist()[0] | {"media_id": name, "codec": "mjpeg"}
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(GokuError, match="no plain name"):
        webdataset.export(kept_media, Version([row]), tmp_path / "out")  # type: ignore[arg-type]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_export_of_honest_names_has_only_plain_ones(kept_media: Path, tmp_path: Path) -> None:
    rows = pq.read_table(kept_media / "data/clips.parquet").to_pylist()[:3]
    webdataset.export(kept_media, Version([row | {"codec": "mjpeg"} for row in rows]), tmp_path / "out")  # type: ignore[arg-type]
    with tarfile.open(next((tmp_path / "out").glob("*.tar"))) as tar:
        assert tar.getnames() and all(is_plain(name) for name in tar.getnames())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("bundle")
    candidate(workspace, 1.0, 0.7)
    promoted(workspace)
    return next((workspace / bundle.STORE).iterdir())


@FEW
@given(NASTY)
def test_names_in_the_manifest_of_a_bundle(whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Also one that leads to a file that is there, with its right digest."""
    folder = tmp_path_factory.mktemp("b") / "bundle"
    folder.mkdir()
    (folder.parent / "x").write_text("beside")
    told = json.loads((whole / bundle.MANIFEST).read_text())
    facts = next(iter(told["files"].values())) | {"sha256": bundle.sha256(folder.parent / "x")}
    told["files"] = {name: facts}
    (folder / bundle.MANIFEST).write_text(json.dumps(told))
    with pytest.raises(GokuError):
        bundle.verify(folder)


@pytest.mark.parametrize("name", [name for name in KNOWN if name.isprintable() and len(name) < 100])
def test_names_in_params_become_folders_only_if_they_are_plain(name: str) -> None:
    text = (ROOT / "params/nano.yaml").read_text()
    for section, key in (("train", "phases"), ("precompute", "resolutions")):
        params = yaml.safe_load(text)
        inner = params[section][key]
        inner[name] = inner[next(iter(inner))]
        with pytest.raises(ValueError, match="letters, digits and underscores"):
            Params.model_validate(params)


def test_an_address_with_a_password_is_no_parameter(tmp_path: Path) -> None:
    """And what is said of it does not repeat it."""
    params = yaml.safe_load((ROOT / "params/nano.yaml").read_text())
    params["tracking"]["uri"] = "postgresql+psycopg://goku:planted@host/db"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(GokuError, match="MLFLOW_TRACKING_URI") as refused:
        load_params(tmp_path / "params.yaml")
    whole = "".join(traceback.format_exception(refused.value))
    assert "planted" not in whole
