"""Several models in one service: what is refused, and which of them a request gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.api.access import KEY
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.model import ServedModel, position
from bento_trtllm.api.routing import ALL_SERVED, named, refusing
from bento_trtllm.api.variants import check_names
from bento_trtllm.arguments import read_settings
from bento_trtllm.bento import pinned
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime, together
from bento_trtllm.engines.openvino import runtime as openvino
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError, SettingsError, StoreError, TritonError
from bento_trtllm.keys.key import Key, Permitted, digest
from bento_trtllm.manifest import Manifest
from bento_trtllm.metrics.exposition import side_by_side
from bento_trtllm.swap.orders import MARK, Orders, mark
from tests.support.scripted_app import ScriptedApp

PARAMETERS = {"kv_values_per_token": str(2**19), "max_tokens_in_paged_kv_cache": "0", "max_num_sequences": "256"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"models": "a", "model": "b"}, "give only one of the two"),
        ({"models": ""}, "models names no model: give tags"),
        ({"models": " , "}, "models names no model: give tags"),
        ({"models": "a,b:1,a"}, "models has a and a, and requests would call both a"),
        ({"models": "a:1,b,A:2"}, "models has a:1 and a:2, and requests would call both a"),
        ({"models": "a,b", "grpc_port": "8001"}, "only one of several models can listen at grpc_port=8001"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_the_first_is_for_requests_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings({"models": " b:2, A,"}).tags == ["b:2", "a"]
    assert read_settings({"models": "a", "grpc_port": "8001"}).tags == ["a"]
    assert read_settings({"models": "a,b", "model": ""}).tags == ["a", "b"]
    monkeypatch.setenv("TRTLLM_MODELS", "")  # as compose sets what is left open
    assert read_settings({"model": "c"}).tags == ["c"]


def manifest(engine: str = "openvino", loaded: int = 2_000_000_000) -> Manifest:
    return Manifest(
        engine=engine, precision="f16", source="", revision=None, checksum=None, architecture="LlamaForCausalLM",
        parameters=1, dtype="float32", vocab_size=8, context_length=1024, bos_id=None, eos_ids=[1], versions={},
        memory={"loaded": loaded},
    )  # fmt: skip


def engine(parameters: dict[str, str] | None = None, **of: Any) -> tuple[Runtime, dict[str, str]]:
    runtime = make_runtime(manifest(**of))
    given = {**PARAMETERS, **(parameters or {})}
    return runtime, runtime.parameters(Settings(), given, ["openvino", "pytorch"]) | (parameters or {})


def test_models_that_fit_only_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "free_memory", lambda groups: 4_000_000_000)
    models = {"a": engine(), "b": engine(loaded=1_000_000_000)}
    with pytest.raises(EngineError) as caught:
        together.check_together(models)
    assert str(caught.value) == (
        "the models take 4.2 GB of memory together (a 2.6, b 1.6), the smallest KV caches included, and this machine "
        "has 4.0 GB free: pack them with --precision int4, give a smaller max_tokens_in_paged_kv_cache, leave one out, "
        "or take a larger machine"
    )
    together.check_together({"a": engine(), "b": engine({"max_tokens_in_paged_kv_cache": "256"}, loaded=1_000_000_000)})


def test_each_takes_its_part_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "free_memory", lambda groups: 32_000_000_000)
    runtime, parameters = engine()
    alone, both = runtime.share(parameters, 1), runtime.share(parameters, 2)
    of_a_token = 2**19 * 9 // 8
    assert (alone["max_tokens_in_paged_kv_cache"], both["max_tokens_in_paged_kv_cache"]) == (
        "0",
        str(4_000_000_000 // of_a_token),
    )
    runtime, parameters = engine({"max_tokens_in_paged_kv_cache": "2000"})
    assert runtime.share(parameters, 2) == parameters


def test_several_on_gpus_are_told_what_they_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "free_memory", lambda groups: 4_000_000_000)
    free, bounded = engine(engine="pytorch"), engine({"max_tokens_in_paged_kv_cache": "8192"}, engine="pytorch")
    together.check_together({"a": free, "on the CPU": engine(loaded=1)})
    together.check_together({"a": bounded, "b": bounded})
    with pytest.raises(EngineError, match=r"several models share the GPUs.*give max_tokens_in_paged_kv_cache, or kv"):
        together.check_together({"a": bounded, "b": free})


def test_a_setting_is_for_any_of_the_engines() -> None:
    runtime = make_runtime(manifest())
    settings = Settings(kv_cache_free_gpu_mem_fraction=0.4)
    assert "kv_cache_free_gpu_mem_fraction" not in runtime.parameters(settings, {}, ["pytorch"])
    with pytest.raises(EngineError, match="the setting kv_cache_free_gpu_mem_fraction is for the engine"):
        runtime.parameters(settings, {}, ["openvino"])


def test_a_name_means_one_model() -> None:
    check_names([["a", "loud"], ["b", "quiet"]])
    for models in ([["a", "b"], ["b"]], [["a", "loud"], ["b", "loud"]]):
        with pytest.raises(StoreError, match=r"requests would call two of the models .*: a and b do not go together"):
            check_names(models)


def test_all_packs_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pinned.PACKS, "{}")
    monkeypatch.setattr(Manifest, "open", classmethod(lambda cls, packed: manifest(loaded=len(str(packed)))))
    packs = [Path("/models/llama b/2"), Path("/models/a/1")]
    assert pinned.pinned() == []
    sealed = pinned.pin(packs)
    assert pinned.pinned() == packs
    assert [pinned.open_pinned(packed).memory for packed in packs] == [each.memory for each in sealed]


ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/v1/completions", {"prompt": "Hi"}),
    ("/v1/responses", {"input": "Hi"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
]


@pytest.fixture
def app() -> ScriptedApp:
    other = ScriptedApp("I am the other.", name="other")
    return ScriptedApp("I am the first.", name="first", beside=[cast(ServedModel, other.model)])


@pytest.mark.parametrize(("path", "body"), ROUTES, ids=lambda value: value if isinstance(value, str) else "")
async def test_the_model_that_is_named_answers(app: ScriptedApp, path: str, body: dict[str, Any]) -> None:
    for name, said in {"first": "first", "other": "other", "other:test": "other"}.items():
        response = await app.post(path, {**body, "model": name})
        assert f"I am the {said}." in response.text, response.text
    response = await app.post(path, {**body, "model": "none"})
    assert response.status_code == 404
    assert "The model `none` does not exist: this server has `first`, `other`." in response.text


async def test_all_are_listed(app: ScriptedApp) -> None:
    async with app.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [each["id"] for each in listed] == ["first", "other"]
        assert [(await client.get(f"/v1/models/{each['id']}")).json() for each in listed] == listed
        tokens = (await client.post("/tokenize", json={"model": "other", "prompt": "Hi"})).json()["tokens"]
        assert (await client.post("/detokenize", json={"tokens": tokens})).json()["prompt"].endswith("Hi")
        assert (await client.get("/load")).json() == {"server_load": 0}


async def test_the_service_is_ready_when_all_are() -> None:
    other = ScriptedApp(name="other")
    app = ScriptedApp(name="first", beside=[cast(ServedModel, other.model)])
    async with app.client() as client:
        assert (await client.get("/health")).status_code == 200
        other.model.not_ready = lambda: "The engine of other is not ready."
        response = await client.get("/health")
        assert (response.status_code, "other is not ready" in response.text) == (503, True)


def test_a_key_allows_some_of_them() -> None:
    models = [cast(ServedModel, ScriptedApp(name=name).model) for name in ("first", "other")]
    scope = {ALL_SERVED: models, KEY: Key("mine", digest(b"sk"), permitted=Permitted(models=["other"]))}
    assert named(scope, "other") is models[1]
    with pytest.raises(APIError, match="The key mine does not allow the model `first`"):
        named(scope, "first")
    assert [bool(refusing(scope, model)) for model in models] == [True, False]


@pytest.mark.parametrize(("name", "number"), [("other", 1), ("first", 0), ("none", 0), (None, 0), (["other"], 0)])
def test_who_names_none_gets_the_first(name: object, number: int) -> None:
    assert position([cast(ServedModel, ScriptedApp(name=each).model) for each in ("first", "other")], name) == number


def test_metrics_say_of_which_model_they_are() -> None:
    text = '# HELP a A.\n# TYPE a gauge\na 1\n# TYPE b gauge\nb{kind="x y"} 2\nb{} 3\n'
    families = list(text_string_to_metric_families(side_by_side({"first": text, "other": text})))
    assert [(family.name, family.documentation) for family in families] == [("a", "A."), ("b", "")]
    found = [(each.name, each.labels, each.value) for family in families for each in family.samples]
    one, other = {"gen_ai_request_model": "first"}, {"gen_ai_request_model": "other"}
    assert found == [
        ("a", one, 1),
        ("a", other, 1),
        ("b", {**one, "kind": "x y"}, 2),
        ("b", one, 3),
        ("b", {**other, "kind": "x y"}, 2),
        ("b", other, 3),
    ]


@pytest.mark.parametrize(
    ("names", "pack", "folder"), [([], "any", "."), (["a", "b"], "b", "seats/b")], ids=["one", "several"]
)
def test_a_pack_takes_the_place_of_the_one_with_its_name(
    names: Sequence[str], pack: str, folder: str, tmp_path: Path
) -> None:
    mark(tmp_path, names)
    assert Orders.for_pack(tmp_path, pack).folder == tmp_path / folder
    assert [path.name for path in tmp_path.iterdir()] == [MARK]
    if names:
        with pytest.raises(TritonError, match=r"the service has the models a, b, .*: c is none of them"):
            Orders.for_pack(tmp_path, "c")
