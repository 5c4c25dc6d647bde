"""How the service is doing, for whoever runs it, without texts. A worker needs it before it has FastAPI."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from bento_trtllm import VERSION
from bento_trtllm.generation.slots import Standing
from bento_trtllm.keys.key import Permitted
from bento_trtllm.keys.keyring import Keyring, now
from bento_trtllm.keys.ledger import Account, Allowance


class Worker(BaseModel):
    """A process of the service."""

    process: int
    running: int
    waiting: int


class Waiter(BaseModel):
    """A client, by the name of its key or its address, in one worker, for one model."""

    client: str
    model: str
    process: int
    running: int
    waiting: int
    waits_s: float | None
    """How long the first in its line has waited."""


class Left(BaseModel):
    """What is left of a limit."""

    limit: int
    remaining: int
    reset_s: float


class KeyState(Permitted):
    """A named key, with what it has used since the service began."""

    name: str
    weight: float
    max_running: int | None
    expires: datetime | None
    expired: bool
    running: int
    waiting: int
    requests: int
    refused: int
    prompt_tokens: int
    generated_tokens: int
    requests_per_minute: Left | None
    tokens_per_minute: Left | None


class EngineState(BaseModel):
    """The model's Triton, as its supervisor has it."""

    state: str
    reason: str
    owner: int
    generation: int
    restarts: int
    failures: int


class Model(BaseModel):
    """A model of the service, with the slots that are its own."""

    model: str
    slots: int
    running: int
    waiting: int
    engine: EngineState


class Overview(BaseModel):
    """All of it."""

    version: str
    models: list[Model]
    workers: list[Worker]
    clients: list[Waiter]
    keys: list[KeyState]
    keys_file_fault: str


@dataclass(frozen=True)
class Seen:
    """What a worker knows of one model."""

    model: str
    slots: int
    processes: dict[int, int]
    """By the worker's number."""
    standings: list[tuple[int, Standing]]
    """With the worker's number."""
    engine: EngineState


def make(seen: Sequence[Seen], keyring: Keyring, accounts: list[Account], at: float) -> Overview:
    """What is known, put together; `at` is the event loop's time."""
    clients = [client for each in seen for client in _clients(each, at)]
    processes = dict.fromkeys(process for each in seen for process in each.processes.values())
    return Overview(
        version=VERSION,
        models=[
            Model(model=each.model, slots=each.slots, engine=each.engine, **_load(clients, model=each.model))
            for each in seen
        ],
        workers=[Worker(process=process, **_load(clients, process=process)) for process in processes],
        clients=sorted(clients, key=lambda client: -(client.waits_s or 0)),
        keys=[_key(account, clients) for account in accounts],
        keys_file_fault=keyring.fault,
    )


def _clients(seen: Seen, at: float) -> list[Waiter]:
    return [
        Waiter(
            client=each.client.name,
            model=seen.model,
            process=seen.processes[row],
            running=each.running,
            waiting=each.waiting,
            waits_s=round(max(0.0, at - each.first), 3) if each.waiting else None,
        )
        for row, each in seen.standings
        if row in seen.processes  # otherwise it has ended since
    ]


def _load(clients: list[Waiter], **of: object) -> dict[str, int]:
    """What those clients have together that are `of` a model, a process or a name."""
    its_own = [client for client in clients if all(getattr(client, name) == value for name, value in of.items())]
    return {"running": sum(each.running for each in its_own), "waiting": sum(each.waiting for each in its_own)}


def _key(account: Account, clients: list[Waiter]) -> KeyState:
    key, counts = account.key, account.counts()
    left = {allowance.kind: _left(allowance) for allowance in account.allowances()}
    return KeyState(
        name=key.name,
        weight=key.weight,
        max_running=key.max_running,
        **key.permitted.model_dump(),
        expires=key.expires,
        expired=key.expired(now()),
        **_load(clients, client=key.name),
        requests=counts.requests,
        refused=counts.refused,
        prompt_tokens=counts.prompt_tokens,
        generated_tokens=counts.generated_tokens,
        requests_per_minute=left.get("requests"),
        tokens_per_minute=left.get("tokens"),
    )


def _left(allowance: Allowance) -> Left:
    return Left(limit=allowance.limit, remaining=allowance.remaining, reset_s=round(allowance.reset_s, 3))
