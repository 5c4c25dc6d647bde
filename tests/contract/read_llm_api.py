"""Reads what TensorRT-LLM's LLM API takes and gives out of its source: `python -m tests.contract.read_llm_api TREE`.

TREE is a checkout of TensorRT-LLM. Names, annotations, defaults and how errors begin go into llm-api-VERSION.json
beside this file; the source is read, not run, and none of it is kept. Two of those files were written by hand: "read"
in them says from what, and what of it is there.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGE = "tensorrt_llm"
CLASSES = {
    "llmapi/llm_args.py": (
        "TorchLlmArgs", "KvCacheConfig", "SchedulerConfig", "CapacitySchedulerPolicy", "SamplerType", "CudaGraphConfig",
        "NGramDecodingConfig", "EagleDecodingConfig", "Eagle3DecodingConfig",
    ),
    "sampling_params.py": ("SamplingParams", "GuidedDecodingParams"),
    "executor/result.py": ("CompletionOutput", "GenerationResult", "Logprob"),
    "executor/request.py": ("LoRARequest",),
    "executor/utils.py": ("RequestError",),
    "lora_helper.py": ("LoraConfig",),
    "llmapi/llm.py": ("BaseLLM",),
}  # fmt: skip
"""The classes that our model uses, by the file that has them."""
STATISTICS = ("IterationStats", "KvCacheStats")
"""What get_stats_async gives as JSON; named in C++."""
JSON_SOURCES = "cpp/tensorrt_llm/executor/jsonSerialization.cpp"
NOT_FIELDS = ("ClassVar", "PrivateAttr")


def read(tree: Path) -> dict[str, Any]:
    """All of it. Raises OSError or KeyError where the tree has none of what is looked for."""
    found: dict[str, Any] = {}
    for file, names in CLASSES.items():
        source = ast.parse((tree / PACKAGE / file).read_text("utf-8"))
        classes = {node.name: node for node in source.body if isinstance(node, ast.ClassDef)}
        found |= {name: {"file": file, **_class(classes, name)} for name in names}
    exports = {"": "__init__.py", "llmapi": "llmapi/__init__.py"}
    return {
        "version": version(tree),
        "exported": {module: _exported(tree / PACKAGE / file) for module, file in exports.items()},
        "classes": found,
        "statistics": _statistics((tree / JSON_SOURCES).read_text("utf-8")),
    }


def version(tree: Path) -> str:
    text = (tree / PACKAGE / "version.py").read_text("utf-8")
    return re.findall(r'__version__ = "(.+)"', text)[0]  # type: ignore[no-any-return]


def _class(classes: Mapping[str, ast.ClassDef], name: str) -> dict[str, Any]:
    """A class with what it has from those of the same file."""
    node = classes[name]
    whole: dict[str, Any] = {"fields": {}, "attributes": [], "methods": {}, "properties": [], "errors": []}
    for base in map(ast.unparse, node.bases):
        if base in classes:
            inherited = _class(classes, base)
            whole["fields"] |= inherited["fields"]
            whole["attributes"] += inherited["attributes"]
            whole["methods"] |= inherited["methods"]
            whole["properties"] += inherited["properties"]
            whole["errors"] += inherited["errors"]
    whole["fields"] |= dict(_fields(node))
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = [ast.unparse(mark) for mark in method.decorator_list]
            whole["errors"] += _errors(method)
            whole["attributes"] += _attributes(method) if method.name == "__init__" else []
            if "property" in marks:
                whole["properties"].append(method.name)
            elif not method.name.startswith("_") or method.name in ("__init__", "__aiter__", "__anext__"):
                whole["methods"][method.name] = _parameters(method)
    whole["bases"] = [ast.unparse(base) for base in node.bases]
    return whole


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a dataclass, a pydantic model or an enumeration."""
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            yield line.targets[0].id, {"annotation": None, "default": ast.unparse(line.value)}
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        annotation, value = ast.unparse(line.annotation), line.value
        if any(mark in annotation or (value and mark in ast.unparse(value)) for mark in NOT_FIELDS):
            continue
        yield line.target.id, {"annotation": annotation, **_default(value)}


def _default(value: ast.expr | None) -> dict[str, Any]:
    """`default` as source text, where there is one; `init` is False for what cannot be given."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) not in ("Field", "field"):
        return {} if value is None else {"default": ast.unparse(value)}
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
    found: dict[str, Any] = {}
    if value.args:
        found["default"] = ast.unparse(value.args[0])
    for name in ("default", "default_factory"):
        if name in given:
            found["default"] = given[name] if name == "default" else f"{given[name]}()"
    if given.get("init") == "False":
        found["init"] = False
    aliases = re.findall(r"'(\w+)'", given.get("validation_alias", ""))
    return {**found, **({"aliases": aliases} if aliases else {})}


def _parameters(method: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str | None]:
    """The parameters of a method but self, with their defaults as source text; None is required."""
    asked = [*method.args.posonlyargs, *method.args.args][1:]
    missing: list[ast.expr | None] = [None] * (len(asked) - len(method.args.defaults))
    values = [*missing, *method.args.defaults]
    pairs = [*zip(asked, values, strict=True), *zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True)]
    found = {argument.arg: None if value is None else ast.unparse(value) for argument, value in pairs}
    return found | ({f"**{method.args.kwarg.arg}": None} if method.args.kwarg else {})


def _attributes(method: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The public ones that it sets."""
    targets = [target for node in ast.walk(method) if isinstance(node, ast.Assign) for target in node.targets]
    return sorted({node.attr for node in targets if isinstance(node, ast.Attribute) and not node.attr.startswith("_")})


def _errors(method: ast.FunctionDef | ast.AsyncFunctionDef) -> list[list[str]]:
    """Exceptions that it raises, and how their text begins."""
    raised = [node.exc for node in ast.walk(method) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return [[ast.unparse(call.func), _beginning(call.args[0])] for call in raised if call.args]


def _beginning(text: ast.expr) -> str:
    """The constant part in front of a text."""
    first = text.values[0] if isinstance(text, ast.JoinedStr) else text
    return str(first.value) if isinstance(first, ast.Constant) else ""


def _exported(file: Path) -> list[str]:
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    raise KeyError(f"{file} has no __all__")


def _statistics(source: str) -> dict[str, list[str]]:
    lists = re.findall(r"NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE\(\s*(\w+),([^)]*)\)", source)
    return {name: re.findall(r"\w+", fields) for name, fields in lists if name in STATISTICS}


def main() -> None:
    found = read(Path(sys.argv[1]))
    file = HERE / f"llm-api-{found['version']}.json"
    file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    print(file)


if __name__ == "__main__":
    main()
