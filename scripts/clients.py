"""Tries clients that people use on a running service, each in an environment of its own, by pip or npm.

Usage: scripts/clients.py [--docs] URL MODEL [CLIENT...]. With --docs, their rows in docs/openai.md are written anew.
The environments are in ~/.cache/bento-trtllm/clients, and are made once. tests/service has openai, anthropic,
langchain-openai and openai-agents. Coding agents send some 20,000 tokens: MODEL needs a context for that.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from compatibility.attempt import attempt
from compatibility.table import CLIENTS, write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write their rows into docs/openai.md")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("clients", nargs="*", choices=[[], *(client.name for client in CLIENTS)])
    given = parser.parse_args()
    failed = False
    for client in CLIENTS:
        if given.clients and client.name not in given.clients:
            continue
        version, result = attempt(client, given.url.rstrip("/"), given.model)
        failed |= result != "works"
        row = f"| {client.name} | {version} | {client.does} | {result} |\n"
        print(row, end="", flush=True)
        if given.docs:
            write({client.name: row})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
