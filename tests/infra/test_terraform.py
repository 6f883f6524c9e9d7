"""infra/terraform says what infra/kubernetes counts on: pools, taints, accounts, a bucket that forgets nothing, nothing public."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster_schemas import KUBERNETES as VERSION
from cluster_schemas import pod_templates
from hcl_blocks import Block, blocks, of_folder

INFRA = Path(__file__).resolve().parents[2] / "infra"
TERRAFORM, KUBERNETES = INFRA / "terraform", INFRA / "kubernetes"
POOLS = json.loads((TERRAFORM / "pools.json").read_text())
TAINTS = {"spot": "goku.dev/spot", "gpus": "nvidia.com/gpu"}


MEMORY = {
    "m7i.4xlarge": 64,
    "c7i.16xlarge": 128,
    "p4de.24xlarge": 1152,
    "p5.48xlarge": 2048,
    "p5en.48xlarge": 2048,
}  # GiB


def resources(kind: str) -> list[Block]:
    found = [block for block in of_folder(TERRAFORM) if block.kind == "resource" and block.labels[0] == kind]
    assert found, kind
    return found


def manifests() -> list[dict]:
    files = [f for f in KUBERNETES.rglob("*.yaml") if f.name != "kustomization.yaml"]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def test_the_reader_of_blocks() -> None:
    found = blocks('resource "a" "b" {\n  x = "{" # {\n  inner {\n    x = 2\n  }\n}\nlocals {\n  y = 1\n}\n')
    assert [(one.kind, one.labels) for one in found] == [("resource", ("a", "b")), ("locals", ())]
    assert found[0].attribute("x") == '"{"' and found[0].inner("inner")[0].attribute("x") == "2"
    with pytest.raises(ValueError, match="not closed"):
        blocks('resource "a" "b" {\n')


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_reads_every_file_and_would_write_it_alike() -> None:
    environment = os.environ | {"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
    command = ["terraform", f"-chdir={TERRAFORM}", "fmt", "-check", "-diff", "-recursive"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_public() -> None:
    for subnet in resources("aws_subnet"):
        assert subnet.attribute("map_public_ip_on_launch") == "false"
    for database in resources("aws_db_instance"):
        assert database.attribute("publicly_accessible") == "false"
        assert database.attribute("manage_master_user_password") == "true" and database.attribute("password") is None
        assert database.attribute("storage_encrypted") == "true" and database.attribute("deletion_protection") == "true"
    for group in resources("aws_security_group"):
        for rule in group.inner("ingress"):
            assert "0.0.0.0/0" not in (rule.attribute("cidr_blocks") or "")
    (block,) = resources("aws_s3_bucket_public_access_block")
    names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert {block.attribute(name) for name in names} == {"true"}
    (cluster,) = resources("aws_eks_cluster")
    (access,) = cluster.inner("vpc_config")
    assert access.attribute("endpoint_public_access") == "length(var.operators) > 0"
    (operators,) = (b for b in of_folder(TERRAFORM) if b.kind == "variable" and b.labels == ("operators",))
    assert operators.attribute("default") == "[]"


def test_machines_with_gpus_have_no_way_out() -> None:
    tables = {one.labels[1]: one for one in resources("aws_route_table")}
    assert tables["gpu"].inner("route") == []
    associated = {one.labels[1]: one.attribute("route_table_id") for one in resources("aws_route_table_association")}
    assert associated["gpu"] == "aws_route_table.gpu.id"
    (group,) = resources("aws_eks_node_group")
    assert group.attribute("subnet_ids") == "each.value.gpus > 0 ? [aws_subnet.gpu.id] : aws_subnet.private[*].id"
    (template,) = resources("aws_launch_template")
    (metadata,) = template.inner("metadata_options")
    assert (
        metadata.attribute("http_tokens") == '"required"' and metadata.attribute("http_put_response_hop_limit") == "1"
    )


def test_the_bucket_forgets_nothing_for_a_month() -> None:
    (versioning,) = resources("aws_s3_bucket_versioning")
    assert versioning.inner("versioning_configuration")[0].attribute("status") == '"Enabled"'
    (rule,) = resources("aws_s3_bucket_lifecycle_configuration")[0].inner("rule")
    assert int(rule.inner("noncurrent_version_expiration")[0].attribute("noncurrent_days") or 0) >= 30
    assert not rule.inner("expiration"), "only what was replaced goes"


def test_taints_of_the_pools_are_tolerated_where_pods_are_sent() -> None:
    (group,) = resources("aws_eks_node_group")
    assert group.attribute("labels") == '{ "goku.dev/pool" = each.key }'
    taints = re.findall(r'key\s+=\s+"([^"]+)"', group.body)
    assert sorted(taints) == sorted(TAINTS.values())
    assert 'each.value.spot ? "SPOT" : "ON_DEMAND"' in group.body
    sent = [(one, template["spec"]) for one in manifests() for template in pod_templates(one)]
    for one, spec in sent:
        pool = spec.get("nodeSelector", {}).get("goku.dev/pool")
        if pool in (None, "none"):
            continue
        tolerated = {toleration["key"] for toleration in spec.get("tolerations", [])}
        assert {key for fact, key in TAINTS.items() if POOLS[pool][fact]} <= tolerated, one["metadata"]["name"]


def test_queues_hand_out_the_pools_that_there_are() -> None:
    flavors = {
        one["metadata"]["name"]: one["spec"]["nodeLabels"] for one in manifests() if one["kind"] == "ResourceFlavor"
    }
    assert {labels["goku.dev/pool"] for labels in flavors.values()} <= set(POOLS)
    for queue in (one for one in manifests() if one["kind"] == "ClusterQueue"):
        for flavor in queue["spec"]["resourceGroups"][0]["flavors"]:
            pool = POOLS[flavors[flavor["name"]]["goku.dev/pool"]]
            (gpus,) = (r["nominalQuota"] for r in flavor["resources"] if r["name"] == "nvidia.com/gpu")
            assert gpus == pool["gpus"] * pool["most"], flavor["name"]
            (memory,) = (r["nominalQuota"] for r in flavor["resources"] if r["name"] == "memory")
            gibibytes = int(memory[:-2]) * {"Gi": 1, "Ti": 1024}[memory[-2:]]
            assert gibibytes <= MEMORY[pool["instance"]] * pool["most"], flavor["name"]
            if queue["metadata"]["name"] == "goku-training":
                assert not pool["spot"], "a training is not put on a machine that may be taken away"


def test_the_workspace_asks_for_no_more_than_the_file_system_has() -> None:
    (size,) = (b for b in of_folder(TERRAFORM) if b.kind == "variable" and b.labels == ("workspace_gibibytes",))
    (claim,) = (one for one in manifests() if one["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == f"{size.attribute('default')}Gi"


def test_versions_and_accounts_agree() -> None:
    (cluster,) = resources("aws_eks_cluster")
    assert cluster.attribute("version") == f'"{VERSION}"'
    rights = (TERRAFORM / "access.tf").read_text()
    named = set(re.findall(r"^\s+(goku-[a-z]+)\s+= \{ read", rights, re.MULTILINE))
    accounts = {one["metadata"]["name"] for one in manifests() if one["kind"] == "ServiceAccount"}
    assert named == accounts - {"goku-worker", "goku-database"}, "these two have nothing to do with the bucket"
