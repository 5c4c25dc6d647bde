"""What the APIs have elsewhere and this service does not: refused by name, so that nobody looks for a wrong URL."""

from fastapi import APIRouter, FastAPI, Request

from bento_trtllm.api.errors import APIError

# The beginnings of paths, and what is asked for there.
NAMES = {
    "/v1/batches": "Batches",
    "/v1/messages/batches": "Batches",
    "/v1/files": "Files",
    "/v1/uploads": "Files",
    "/v1/audio": "Audio",
    "/v1/realtime": "Audio",
    "/v1/images": "Images",
    "/v1/embeddings": "Embeddings",
    "/v1/moderations": "Moderation",
    "/v1/conversations": "Conversations",
}


def install(app: FastAPI) -> None:
    """Add the routes."""
    router = APIRouter(include_in_schema=False)
    for path in NAMES:
        for pattern in (path, path + "/{rest:path}"):
            router.add_api_route(pattern, refuse, methods=["GET", "POST", "DELETE"])
    app.include_router(router)


async def refuse(request: Request) -> None:
    """404, whatever is asked."""
    path = request.url.path
    name = next(name for prefix, name in NAMES.items() if path == prefix or path.startswith(f"{prefix}/"))
    verb = "is" if name in ("Audio", "Moderation") else "are"
    message = f"{name} {verb} not served here ({path}): /docs.json says what is."
    raise APIError(404, "not_supported", message, code="not_supported")
