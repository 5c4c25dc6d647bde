"""What measures models and servers: an evaluation, and generators of load."""

from compatibility.client import Client

MEASURES = (
    Client(
        "lm-eval",
        "multiple choice and perplexity by local-completions, against the reference's numbers",
        """
import json, math, os, pathlib, tempfile
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="x")
HEAD = "<|start_header_id|>%s<|end_header_id|>\\n\\n"
ASKED = HEAD % "user" + "{{q}}<|eot_id|>" + HEAD % "assistant"
ANSWERS = {
    "Say hello in French": "Bonjour ! Enchanté de faire votre connaissance.",
    "Say hello in Japanese": "こんにちは！はじめまして。",
    "Define superconductor": "A superconductor is a material that, below a certain temperature,",
}
# By bento_trtllm/engines/openvino/reference.py in f32: the mean of the answers' log probabilities, and the texts'.
LIKELIHOOD, PERPLEXITY = -6.4307, 6.8606
with tempfile.TemporaryDirectory() as folder:
    os.environ["HF_HOME"] = folder
    import lm_eval
    from lm_eval.tasks import TaskManager
    def add(name, rows, lines):
        file = pathlib.Path(folder, name + ".jsonl")
        file.write_text("".join(json.dumps(row) + "\\n" for row in rows))
        data = f"task: {name}\\ndataset_path: json\\ndataset_kwargs: {{data_files: {{test: {file}}}}}\\n"
        file.with_suffix(".yaml").write_text(data + "test_split: test\\n" + lines)
    said = list(ANSWERS.values())
    rows = [{"q": q, "choices": said, "right": i} for i, q in enumerate(ANSWERS)]
    ask = f"doc_to_text: {json.dumps(ASKED)}\\ntarget_delimiter: ''\\n"
    add("choose", rows, "output_type: multiple_choice\\n" + ask + "doc_to_choice: choices\\ndoc_to_target: right\\n")
    rolling = "output_type: loglikelihood_rolling\\ndoc_to_text: ''\\ndoc_to_target: '{{text}}'\\n"
    add("text", [{"text": text} for text in said], rolling + "metric_list: [{metric: byte_perplexity}]\\n")
    here = {"model": model, "base_url": url + "/v1/completions", "tokenizer": tokenizer, "num_concurrent": 3}
    tasks = TaskManager(include_path=folder, include_defaults=False)
    found = lm_eval.simple_evaluate(
        "local-completions", here, tasks=["choose", "text"], task_manager=tasks, bootstrap_iters=0
    )
right = [sample["filtered_resps"][sample["doc"]["right"]] for sample in found["samples"]["choose"]]
likelihood, perplexity = sum(ll for ll, _ in right) / 3, found["results"]["text"]["byte_perplexity,none"]
assert found["results"]["choose"]["acc,none"] == 1
# A pack in 8 bits is about a percent off.
for measured, true in ((likelihood, LIKELIHOOD), (perplexity, PERPLEXITY)):
    assert abs(measured / true - 1) < 0.03, (measured, true)
""",
        "lm-eval[api] transformers",
    ),
    Client(
        "guidellm",
        "8 chats, 4 at a time, none of which failed",
        """
import json, os, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "benchmarks.json")
    command = [
        pathlib.Path(sys.executable).with_name("guidellm"), "run", "--disable-progress",
        "--backend", f"kind=openai_http,target={url},model={model}",
        "--profile", "kind=concurrent,streams=4", "--constraint", "kind=max_requests,count=8",
        "--tokenizer", f"kind=hf_auto,model={tokenizer}",
        "--data", "kind=synthetic_text,prompt_tokens=50,output_tokens=20", "--output", f"kind=json,path={file}",
    ]
    told = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    counts = json.loads(file.read_text())["benchmarks"][0]["metrics"]["request_totals"]
    assert (counts["successful"], counts["errored"]) == (8, 0), counts
""",
    ),
    Client(
        "aiperf",
        "8 chats, 4 at a time, none of which failed",
        """
import json, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    command = [
        pathlib.Path(sys.executable).with_name("aiperf"), "profile", "--model", model, "--tokenizer", tokenizer,
        "--url", url, "--endpoint-type", "chat", "--streaming", "--concurrency", "4", "--request-count", "8",
        "--synthetic-input-tokens-mean", "50", "--output-tokens-mean", "20", "--ui-type", "none",
        "--artifact-dir", folder,
    ]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(pathlib.Path(folder, "profile_export_aiperf.json").read_text())
    assert found["request_count"]["avg"] == 8 and not found.get("error_summary"), found
""",
    ),
    Client(
        "evalscope",
        "its perf: 8 chats, 4 at a time, none of which failed",
        """
import os, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    command = [
        pathlib.Path(sys.executable).with_name("evalscope"), "perf", "--model", model,
        "--url", url + "/v1/chat/completions", "--api", "openai", "--dataset", "random",
        "--tokenizer-path", tokenizer, "--number", "8", "--parallel", "4", "--min-prompt-length", "20",
        "--max-prompt-length", "40", "--max-tokens", "20", "--min-tokens", "20", "--stream", "--outputs-dir", folder,
    ]
    told = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    (file,) = pathlib.Path(folder).rglob("performance_summary.txt")
    assert "100%" in file.read_text() or "100.0%" in file.read_text(), file.read_text()
""",
        "evalscope[perf]",
    ),
)
