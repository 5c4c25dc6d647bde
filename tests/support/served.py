"""What a worker serves, to the eye of Visits: models that stay as they are."""

from contextlib import nullcontext

from bento_trtllm.api.model import ServedModel, position


class Served:
    """A swap.serving.Serving. Requests that name no model are for the first."""

    def __init__(self, *models: ServedModel) -> None:
        self.models = models

    def visit(self, name: object, *, patient: bool) -> nullcontext[ServedModel]:
        return nullcontext(self.models[position(self.models, name)])
