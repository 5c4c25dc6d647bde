"""Agents that write code, which are commands."""

from compatibility.client import Client

AGENTS = (
    Client(
        "@anthropic-ai/claude-code",
        "a question without a terminal, with its tools for files and commands, by Anthropic's API",
        """
import os, subprocess, tempfile
with tempfile.TemporaryDirectory() as home:
    env = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "x",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "100",
        # Were it to call another host, that would fail.
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    }
    ask = ["node_modules/.bin/claude", "-p", "Say hello in Japanese", "--model", model, "--output-format", "json"]
    ask += ["--tools", "Bash,Edit,Read,Write"]
    told = subprocess.run(ask, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert told.returncode == 0 and '"is_error":false' in told.stdout.replace(" ", ""), told.stdout + told.stderr
""",
        npm=True,
    ),
    Client(
        "@openai/codex",
        "a question without a terminal, by Responses, without the tools that only OpenAI runs",
        """
import os, pathlib, subprocess, tempfile
provider = {"name": "here", "base_url": url + "/v1", "env_key": "HERE_KEY", "wire_api": "responses"}
config = {
    "model": model, "model_provider": "here", "web_search": "disabled", "check_for_update_on_startup": "",
    **{f"model_providers.here.{key}": value for key, value in provider.items()},
}
lines = [f"{key} = " + ('"' + value + '"' if value else "false") for key, value in config.items()]
lines += [f"model_providers.here.{key}_max_retries = 0" for key in ("request", "stream")]
lines += ["features.multi_agent = false", "analytics.enabled = false"]
with tempfile.TemporaryDirectory() as home:
    pathlib.Path(home, "config.toml").write_text(os.linesep.join(lines))
    env = {
        "PATH": os.environ["PATH"], "HOME": home, "CODEX_HOME": home, "HERE_KEY": "x",
        # Were it to call another host, that would fail.
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    }
    command = ["node_modules/.bin/codex", "exec", "--skip-git-repo-check", "--sandbox", "read-only", "Say hello"]
    told = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.strip(), told.stdout + told.stderr
""",
        npm=True,
    ),
)
