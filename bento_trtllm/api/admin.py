"""How the service is, for whoever runs it: /admin.json, and a page that shows it. Only read, and no texts."""

from datetime import datetime
from typing import Protocol, cast

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from bento_trtllm import VERSION
from bento_trtllm.api import pages
from bento_trtllm.api.access import ADMIN
from bento_trtllm.generation.slots import Standing
from bento_trtllm.keys.keyring import Keyring, now
from bento_trtllm.keys.ledger import Account, Allowance

router = APIRouter(include_in_schema=False)


class Worker(BaseModel):
    """A process of the service."""

    process: int
    running: int
    waiting: int


class Waiter(BaseModel):
    """A client, by the name of its key or its address, in one worker."""

    client: str
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


class KeyState(BaseModel):
    """A named key, with what it has used since the service began."""

    name: str
    weight: float
    max_running: int | None
    models: list[str] | None
    adapters: list[str] | None
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


class Engine(BaseModel):
    """The service's Triton, as its supervisor has it."""

    state: str
    reason: str
    owner: int
    generation: int
    restarts: int
    failures: int


class Overview(BaseModel):
    """All of it."""

    version: str
    model: str
    slots: int
    running: int
    waiting: int
    workers: list[Worker]
    clients: list[Waiter]
    keys: list[KeyState]
    keys_file_fault: str
    engine: Engine


class Overseen(Protocol):
    """llm.LLM."""

    def overview(self) -> Overview:
        """How it is."""
        ...


def install(app: FastAPI) -> None:
    """Add the routes."""
    app.include_router(router)


@router.get(ADMIN)
async def overview(request: Request) -> Overview:
    """The service as it is now."""
    return cast(Overseen, request.app.state.model).overview()


@router.api_route("/admin", methods=["GET", "HEAD"])
async def page() -> Response:
    """The page, which asks its user for the key."""
    return pages.admin_page()


def make(
    model: str,
    slots: int,
    processes: dict[int, int],
    standings: list[tuple[int, Standing]],
    keyring: Keyring,
    accounts: list[Account],
    engine: Engine,
    at: float,
) -> Overview:
    """What is known, put together. `processes` are by the number of the worker; `at` is the time of the event loop."""
    workers = {row: Worker(process=process, running=0, waiting=0) for row, process in processes.items()}
    clients = []
    for row, each in standings:
        if row not in workers:  # it has ended since
            continue
        workers[row].running += each.running
        workers[row].waiting += each.waiting
        waits_s = round(max(0.0, at - each.first), 3) if each.waiting else None
        clients.append(
            Waiter(
                client=each.client.name,
                process=processes[row],
                running=each.running,
                waiting=each.waiting,
                waits_s=waits_s,
            )
        )
    return Overview(
        version=VERSION,
        model=model,
        slots=slots,
        running=sum(worker.running for worker in workers.values()),
        waiting=sum(worker.waiting for worker in workers.values()),
        workers=list(workers.values()),
        clients=sorted(clients, key=lambda client: -(client.waits_s or 0)),
        keys=[_key(account, clients) for account in accounts],
        keys_file_fault=keyring.fault,
        engine=engine,
    )


def _key(account: Account, clients: list[Waiter]) -> KeyState:
    key, counts = account.key, account.counts()
    its_own = [client for client in clients if client.client == key.name]
    left = {allowance.kind: _left(allowance) for allowance in account.allowances()}
    return KeyState(
        name=key.name,
        weight=key.weight,
        max_running=key.max_running,
        models=None if key.models is None else sorted(key.models),
        adapters=None if key.adapters is None else sorted(key.adapters),
        expires=key.expires,
        expired=key.expired(now()),
        running=sum(client.running for client in its_own),
        waiting=sum(client.waiting for client in its_own),
        requests=counts.requests,
        refused=counts.refused,
        prompt_tokens=counts.prompt_tokens,
        generated_tokens=counts.generated_tokens,
        requests_per_minute=left.get("requests"),
        tokens_per_minute=left.get("tokens"),
    )


def _left(allowance: Allowance) -> Left:
    return Left(limit=allowance.limit, remaining=allowance.remaining, reset_s=round(allowance.reset_s, 3))
