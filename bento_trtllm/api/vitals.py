"""How the service is doing, under the names that vLLM's and SageMaker's probes and routers ask for."""

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from bento_trtllm import VERSION
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.model import not_ready
from bento_trtllm.api.routing import all_served

router = APIRouter(tags=["Infrastructure"])


class ServiceVersion(BaseModel):
    """Of this service."""

    version: str


class ServiceLoad(BaseModel):
    """Requests that run or wait, in all workers."""

    server_load: int


def install(app: FastAPI) -> None:
    """Add the routes."""
    app.include_router(router)


@router.get("/health", response_class=Response)
@router.get("/ping", response_class=Response)
async def health(request: Request) -> Response:
    """200 where requests are answered, whichever model they name; as BentoML's /readyz."""
    if reason := not_ready(all_served(request)):
        raise APIError(503, "engine_unavailable", reason)
    return Response()


@router.get("/version")
async def version() -> ServiceVersion:
    """The version of this service."""
    return ServiceVersion(version=VERSION)


@router.get("/load")
async def load(request: Request) -> ServiceLoad:
    """How many requests run or wait."""
    return ServiceLoad(server_load=sum(model.admission.load for model in all_served(request)))
