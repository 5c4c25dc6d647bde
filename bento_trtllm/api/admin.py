"""How the service is doing: /admin.json, and a page that shows it. Read-only."""

from typing import Protocol, cast

from fastapi import APIRouter, FastAPI, Request, Response

from bento_trtllm.api import pages
from bento_trtllm.api.access import ADMIN
from bento_trtllm.api.overview import Overview

router = APIRouter(include_in_schema=False)


class Overseer(Protocol):
    """swap.serving.Serving."""

    def overview(self) -> Overview:
        """How it is doing."""
        ...


def install(app: FastAPI) -> None:
    """Add the routes."""
    app.include_router(router)


@router.get(ADMIN)
async def overview(request: Request) -> Overview:
    """The service as it is now."""
    return cast(Overseer, request.app.state.serving).overview()


@router.api_route("/admin", methods=["GET", "HEAD"])
async def page() -> Response:
    """The page, which asks its user for the key."""
    return pages.admin_page()
