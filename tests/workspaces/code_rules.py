"""What code of this project never does, as questions to its syntax tree: running what it reads, or what a shell reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator

UNPICKLERS = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "pickle", "_pickle", "cPickle"}
SHELLS = {"os.system", "os.popen", "os.spawnl", "os.spawnlp", "subprocess.getoutput", "subprocess.getstatusoutput"}
STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}
UNPACKERS = {"extractall", "unpack_archive", "extract"}
BUILTINS = {"eval", "exec", "compile", "__import__"}


def offences(text: str) -> Iterator[str]:
    """``line: what`` for each."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for said in _of(node):
            yield f"{getattr(node, 'lineno', 0)}: {said}"


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
        if {alias.name for alias in node.names} - {"UnpicklingError"}:
            yield f"from {node.module}"
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in UNPICKLERS - {"pickle"}:
                yield f"import {alias.name}"
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node.attr != "UnpicklingError":
        yield f"pickle.{node.attr}"  # the name of its error is all that is needed of it
    elif isinstance(node, ast.Call):
        yield from _call(node)


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    last = name.rpartition(".")[2]
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    elif name == "torch.save" or last in ("to_pickle", "read_pickle"):
        yield f"{name} writes or reads a pickle"
    elif given.get("allow_pickle", "False") != "False" or given.get("trust_remote_code", "False") != "False":
        yield f"{name} may run what it reads"
    elif name == "yaml.load" and "Safe" not in given.get("Loader", ""):
        yield "yaml.load without a safe loader"
    elif name.startswith("yaml.") and last in ("unsafe_load", "full_load", "load_all", "unsafe_load_all"):
        yield name
    elif name in SHELLS or given.get("shell", "False") != "False":
        yield f"{name} through a shell"
    elif name in STARTERS and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
        yield f"{name} of a text"
    elif isinstance(node.func, ast.Name) and name in BUILTINS:
        yield f"{name}()"
    elif last in UNPACKERS and isinstance(node.func, ast.Attribute):
        yield f"{name} unpacks an archive"
