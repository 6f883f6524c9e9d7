"""Prompt suites: the official files give the published counts, the grammar's own files load, and errors name file and line."""

from __future__ import annotations

import csv
import hashlib
import json
import ssl
import subprocess
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from goku_core.evaluate.manifest import difference, plan, read, write
from goku_core.evaluate.rewriting.rewriting import read as read_rewriting
from goku_core.evaluate.suites import compbench, dpg, geneval, vbench, vbench2
from goku_core.evaluate.suites.suite import FORMATS, format_named, open_suite, spread
from goku_core.pipeline.errors import GokuError

OFFICIAL = Path(__file__).parents[2] / "../shared/benchmarks"
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs the prompt files in ../shared/benchmarks")
HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)
VGOOD = {"prompt_en": "a hat", "dimension": ["color"]}
VBAD = VGOOD | {"dimension": ["colour"]}
ROW = "1,a,,1,0,e,w,t (x),Is it?\n"
MADE = ("geneval", "vbench", "dpg", "compbench")


@needs_official
def test_geneval_has_its_published_counts():
    prompts = geneval.load(OFFICIAL / "geneval")
    expected = {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert Counter(p.task for p in prompts) == expected
    lines = (OFFICIAL / "geneval/generation_prompts.txt").read_text().splitlines()
    assert [p.text for p in prompts] == lines and sum(map(geneval.per_prompt, prompts)) == 2212
    assert prompts[552].prompt_id == "geneval-00552" and {p.dimensions for p in prompts} == {("geneval",)}


@needs_official
def test_vbench_has_its_published_counts():
    prompts = vbench.load(OFFICIAL / "vbench")
    entries = json.loads((OFFICIAL / "vbench/VBench_full_info.json").read_text())
    texts = [p.text for p in prompts]
    assert len(prompts) == len(set(texts)) == len({e["prompt_en"] for e in entries}) == 944
    assert Counter(d for p in prompts for d in p.dimensions) == Counter(d for e in entries for d in e["dimension"])
    # Five of each are the 4720 clips of the leaderboard's check; the 75 of the static filter have 25.
    assert sum(map(vbench.per_prompt, prompts)) == 944 * 5 + 75 * 20 == 6220
    assert len(plan("vbench", "video", prompts, 5, 0)) == 4720
    assert {"A fantasy landscape", "a fantasy landscape"} <= set(texts)
    twice = [p for p in prompts if len(p.metadata["entries"]) == 2]
    assert {frozenset(p.dimensions) & {"appearance_style", "overall_consistency"} for p in twice} == {
        frozenset({"appearance_style", "overall_consistency"})
    }
    for p in prompts:
        for number in p.metadata["entries"]:
            assert entries[number]["prompt_en"] == p.text
            assert entries[number].get("auxiliary_info", {}).items() <= p.metadata["auxiliary_info"].items()


@needs_official
def test_vbench2_dpg_and_compbench_have_their_published_counts():
    two = vbench2.load(OFFICIAL / "vbench2")
    assert len(two) == 1230 and len({p.text for p in two}) == 1013
    assert sum(map(vbench2.per_prompt, two)) == 1220 * 3 + 10 * 20
    dense = dpg.load(OFFICIAL / "dpg-bench")
    assert len(dense) == 1065 and dense[0].metadata == {"item_id": "0"} and dpg.per_prompt(dense[0]) == 4
    lines = (OFFICIAL / "dpg-bench/prompts.jsonl").read_text().split("\n")
    assert [p.text for p in dense] == [json.loads(line)["prompt"] for line in lines if line]
    composed = compbench.load(OFFICIAL / "t2i-compbench")
    assert Counter(p.task for p in composed) == dict.fromkeys(compbench.CATEGORIES, 300)
    kinds = Counter(p.metadata["kind"] for p in composed if p.task == "complex")
    asked = {
        (p.metadata["kind"], "complex_action" in p.dimensions, "complex_spatial" in p.dimensions)
        for p in composed
        if p.task == "complex"
    }
    assert asked == {("spatial", False, True), ("action", True, False), ("spatialaction", True, True)}
    assert kinds == {"spatial": 58, "action": 212, "spatialaction": 30}
    assert all(p.dimensions == (p.task,) for p in composed if p.task != "complex")
    assert all(compbench.per_prompt(p) == 10 for p in composed)


@needs_official
@pytest.mark.parametrize(
    "name", ["gpt4o_all_dimension_longer", "hunyuan_all_dimension", "wan21_all_dimension_aug_seed42"]
)
def test_published_rewritings_are_aligned_by_line(name):
    suite = vbench.load(OFFICIAL / "vbench")
    path = OFFICIAL / f"vbench/augmented/{name}.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    made = read_rewriting(path, suite, 946)
    assert len(made.words) == 944
    assert made.words["vbench-00945"] == lines[945] and made.words["vbench-00000"] == lines[0]
    assert made.label.startswith(name.replace("_", "-"))
    with pytest.raises(GokuError, match="946 lines, the suite 945 entries"):
        read_rewriting(path, suite, 945)


@needs_official
@pytest.mark.parametrize(
    ("name", "folder"), [("geneval", "geneval"), ("dpg", "dpg-bench"), ("compbench", "t2i-compbench")]
)
def test_suite_file_says_what_was_read_and_under_which_licence(name, folder, tmp_path):
    opened = open_suite(name, str(OFFICIAL / folder), tmp_path)
    opened.write(tmp_path)
    facts = json.loads((tmp_path / "suite.json").read_text())
    sums = dict(reversed(line.split("  ./")) for line in (OFFICIAL / "SHA256SUMS").read_text().splitlines())
    for one in facts["files"]:
        assert one["sha256"] == sums[f"{folder}/{one['name']}"]
        assert one["published"] or one["name"] == "LICENSE"
    assert facts["licence"] and "https://github.com/" in facts["notice"] and facts["prompts"] == len(opened.prompts)


@pytest.mark.parametrize("name", MADE)
def test_the_grammars_suite_loads_in_the_official_format(name, tmp_path):
    one, two = (open_suite(name, "grammar", tmp_path / part) for part in "ab")
    assert [f.sha256 for f in one.files] == [f.sha256 for f in two.files]
    assert list(one.prompts) == list(two.prompts) and len(one.prompts) >= 24
    assert len({p.prompt_id for p in one.prompts}) == len(one.prompts)


def test_the_grammars_questions_depend_on_what_they_are_about(tmp_path):
    for prompt in open_suite("dpg", "grammar", tmp_path).prompts:
        questions = {q["id"]: q for q in prompt.metadata["questions"]}
        assert [q["dependency"] for q in questions.values()] == [[], [], [1], [2], [1, 2]]
        for number in (3, 4):
            (parent,) = questions[number]["dependency"]
            named = questions[parent]["tuple"].split("(")[1].rstrip(")")
            color = questions[number]["tuple"].split(", ")[1].rstrip(")")
            assert questions[number]["tuple"].startswith(f"attribute - color ({named}, ")
            assert f"{color} {named}" in prompt.text
    assert sum("first_of_file" in p.metadata for p in open_suite("dpg", "grammar", tmp_path).prompts) == 1


def test_every_row_of_the_question_table_stays_and_ids_are_text(tmp_path):
    rows = [
        ["007", "A cat,\nor two", "", "1", "0", "entity", "whole", "entity - whole (cat)", "Is there a cat?"],
        ["007", "A cat,\nor two", "", "2", "1,9", "other", "count", "other - count (cat, ==2)", "Are there two?"],
        ["partiprompts7", "A dog", "", "1", "0", "entity", "whole", "entity - whole (dog)", "Is there a dog?"],
    ]
    with (tmp_path / "dpg_bench.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEAD.strip().split(","))
        table.writerows(rows)
    first, second = dpg.load(tmp_path)
    assert (first.metadata["item_id"], first.text) == ("007", "A cat,\nor two")
    assert [q["question"] for q in first.metadata["questions"]] == ["Is there a cat?", "Are there two?"]
    assert first.metadata["questions"][1]["dependency"] == [1, 9]  # as the table has it
    assert first.metadata["questions"][1]["category"] == "other - count"
    assert second.metadata["questions"][0]["dependency"] == [] and "first_of_file" not in second.metadata
    (tmp_path / "prompts.jsonl").write_text('{"item_id": "007", "prompt": "A cat"}\n')
    with pytest.raises(GokuError, match=r"partiprompts7.*not among the prompts"):
        dpg.load(tmp_path)


GOOD = {"tag": "colors", "prompt": "a photo of a red hat", "include": [{"class": "hat", "count": 1, "color": "red"}]}
HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)


@pytest.mark.parametrize(
    ("name", "file", "text", "says"),
    [
        ("geneval", geneval.FILE, json.dumps(GOOD) + "\n{broken\n", "line 2: not JSON"),
        ("geneval", geneval.FILE, json.dumps(GOOD | {"tag": "style"}), "line 1.*tag 'style' is none of"),
        ("geneval", geneval.FILE, json.dumps(GOOD | {"includes": []}), "line 1.*unknown field 'includes'"),
        ("geneval", geneval.FILE, json.dumps({"tag": "colors", "prompt": "x"}), "line 1.*no field 'include'"),
        ("vbench", vbench.FILE, f"[\n{json.dumps(VGOOD)},\n{json.dumps(VBAD)}\n]", "line 3: unknown dimension 'colour'"),
        ("vbench", vbench.FILE, f"[\n{json.dumps(VGOOD)},\n{json.dumps(VGOOD)}]", "line 3: this prompt has been given for color"),
        ("vbench", vbench.FILE, f"[\n{json.dumps(VGOOD)},\n", "cut off"),
        ("vbench", vbench.FILE, f'{{"a": {json.dumps(VGOOD)}}}', "line 1: not a JSON list"),
        ("vbench2", vbench2.FILE, f"[{json.dumps(VGOOD)}]", "unknown dimension 'color'"),
        ("dpg", dpg.QUESTIONS, "item_id,text\n1,a", "line 1: no column 'proposition_id'"),
        ("dpg", dpg.QUESTIONS, HEAD + ROW + "1,a,,2,none,e,w,t (x),Is it?\n", "line 3: .*dependency a list of numbers"),
        ("dpg", dpg.QUESTIONS, HEAD + ROW + "1,b,,2,0,e,w,t (x),Is it?\n", "line 3: another text"),
        ("dpg", dpg.PROMPTS, '{"item_id": 1, "prompt": "a"}', "line 1: item_id must be text"),
        ("compbench", "color_val.txt", "a red hat\n\na blue hat\n", "line 2: an empty line"),
        ("compbench", "colour.txt", "a red hat\n", "none of color_val.txt"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(name, file, text, says, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(GokuError, match=says) as caught:
        format_named(name).load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_spread_keeps_some_of_every_task(tmp_path):
    prompts = open_suite("geneval", "grammar", tmp_path).prompts
    few = spread(prompts, 18)
    assert len(few) == 18 and {p.task for p in few} == {p.task for p in prompts}
    assert spread(prompts, None) == list(prompts) == spread(prompts, 10**6)


def test_two_plans_are_compared_sample_by_sample(tmp_path):
    prompts = open_suite("geneval", "grammar", tmp_path).prompts
    one = plan("geneval", "image", prompts, 4, 0)
    write(tmp_path / "manifest.parquet", one)
    assert difference(one, read(tmp_path / "manifest.parquet")) == ""
    assert "seed of geneval-00000-0" in difference(plan("geneval", "image", prompts, 4, 1), one)
    assert difference(plan("geneval", "image", prompts, 3, 0), one).startswith("sample geneval-00000-3 is there")
    assert difference(one[:-4], one) == f"{len(one)} samples are there, {len(one) - 4} are planned"


@pytest.fixture
def https_folder(tmp_path, monkeypatch):
    """A folder served over https on this machine, with a certificate that this process trusts."""
    folder = tmp_path / "served"
    folder.mkdir()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    class Handler(SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012

        def do_GET(self):
            self.asked.append(self.path)
            if self.path.endswith("/away"):
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:9/geneval.jsonl")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_):
            """Nothing: the test reads `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield folder, f"https://127.0.0.1:{server.server_port}", Handler.asked
    server.shutdown()
    server.server_close()


def test_a_suite_comes_over_https_once_and_is_checked(https_folder, tmp_path):
    folder, address, asked = https_folder
    made = open_suite("compbench", "grammar", tmp_path / "made")
    (folder / "t2i").mkdir()
    for one in made.files:
        (folder / "t2i" / one.name).write_bytes((made.place / one.name).read_bytes())
    came = open_suite("compbench", f"{address}/t2i/", tmp_path / "eval")
    assert list(came.prompts) == list(made.prompts) and came.files == made.files  # 3d_spatial_val.txt is not there
    came.write(tmp_path / "eval")
    count = len(asked)
    assert list(open_suite("compbench", f"{address}/t2i/", tmp_path / "eval").prompts) == list(made.prompts)
    assert len(asked) == count  # kept with its digests: not asked for again

    (folder / "geneval.jsonl").write_text(json.dumps(GOOD) + "\n")
    right = hashlib.sha256((folder / "geneval.jsonl").read_bytes()).hexdigest()
    one = open_suite("geneval", f"{address}/geneval.jsonl#sha256={right}", tmp_path / "one")
    assert [p.text for p in one.prompts] == ["a photo of a red hat"]
    for asked_for, says in [
        (f"{address}/geneval.jsonl#sha256={'0' * 64}", f"has SHA-256 {right}, not 000"),
        (f"{address}/none.jsonl", "there is no such file"),
        (f"{address}/nothing/", "none of evaluation_metadata.jsonl is there"),
        (f"{address}/away", "over https alone"),
        ("http://127.0.0.1:9/geneval.jsonl", "over https alone"),
        ("https://127.0.0.1:9/geneval.jsonl", "ConnectError"),
    ]:
        with pytest.raises(GokuError, match=says):
            open_suite("geneval", asked_for, tmp_path / "two")
    (folder / "page.jsonl").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(GokuError, match="a web page came"):
        open_suite("geneval", f"{address}/page.jsonl", tmp_path / "two")


def test_what_the_corpus_cannot_show_is_said(tmp_path):
    with pytest.raises(GokuError, match="no prompts for vbench2"):
        open_suite("vbench2", "grammar", tmp_path)
    with pytest.raises(GokuError, match="there is no prompt suite 'wise'"):
        open_suite("wise", "grammar", tmp_path)
    with pytest.raises(GokuError, match="no such folder or file"):
        open_suite("geneval", str(tmp_path / "nowhere"), tmp_path)
    assert set(MADE) < set(FORMATS)
