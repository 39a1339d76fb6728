"""What none of the sources may do: read a pickle, run text as code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("finetune", "app", "worker", "client", "migrations", "examples", "benchmarks")
FILES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "peers" not in path.parts  # other libraries' programs, which nobody but a benchmark starts
)
NO_PICKLE = pytest.mark.promise("No source reads a pickle of a user's, or runs a user's text")

# Modules whose files run code when they are read. `pickle` is imported for the name of an error.
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
ALLOWED = {("finetune/checkpoint.py", "pickle")}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADS = {
    "load": {"torch", "numpy", "np", "yaml", "pickle", "joblib", "jit", "package"},
    "loads": {"pickle", "marshal", "dill"},
}
SAFE_YAML = {"_Loader"}  # made of yaml.SafeLoader


def imported(node):
    match node:
        case ast.Import():
            return [alias.name.partition(".")[0] for alias in node.names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module.partition(".")[0]]
    return []


def owner(call):
    """`torch` of `torch.load(…)`."""
    value = call.func.value
    return value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""


def is_true(call, name):
    return any(
        k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )


def wrong(call):
    """What is wrong with a call, if anything."""
    if isinstance(call.func, ast.Name):
        return f"calls {call.func.id}" if call.func.id in CALLS else None
    if not isinstance(call.func, ast.Attribute):
        return None
    name, module = call.func.attr, owner(call)
    if name == "get_state_dict" or name.startswith("load_state_dict_from"):
        return None if is_true(call, "weights_only") else f"{name} without weights_only=True"
    if module not in LOADS.get(name, ()):
        return "reads pickles" if is_true(call, "allow_pickle") else None
    if module == "torch":
        return None if is_true(call, "weights_only") else "torch.load without weights_only=True"
    if module == "yaml":
        loader = call.args[1] if len(call.args) > 1 else None
        return (
            None
            if isinstance(loader, ast.Name) and loader.id in SAFE_YAML
            else "yaml.load without a safe loader"
        )
    return f"calls {module}.{name}"


def problems(tree, name):
    for node in ast.walk(tree):
        for module in imported(node):
            if module in FORBIDDEN and (name, module) not in ALLOWED:
                yield f"{name} imports {module}"
        if isinstance(node, ast.Call) and (what := wrong(node)):
            yield f"{name}:{node.lineno} {what}"


@NO_PICKLE
def test_no_source_reads_a_pickle_or_runs_text(tried):
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        found += problems(ast.parse(path.read_text()), name)
    tried(len(FILES))
    assert len(FILES) > 100
    assert found == []


@NO_PICKLE
@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.parallel",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=weights_only)",
        "np.load(path)",
        "np.fromfile(path, allow_pickle=True)",
        "weights.get_state_dict(check_hash=True)",
        "torch.hub.load_state_dict_from_url(url)",
        "torch.jit.load(path)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_what_must_not_be_is_seen(line):
    assert list(problems(ast.parse(line), "finetune/x.py"))


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "json.loads(text)",
        "yaml.load(text, _Loader)",
        "re.compile(text)",
    ],
)
def test_what_may_be_is_let_be(line):
    assert not list(problems(ast.parse(line), "finetune/x.py"))
