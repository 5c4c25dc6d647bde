"""A client, and what is tried with it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """`code` must end without an error; `url` (without /v1), `model` and a `tokenizer` of its are given to it.

    With `node` it is JavaScript, with `npm` Python that starts a command of a package of npm.
    """

    name: str
    does: str
    code: str
    package: str = ""
    node: bool = False
    npm: bool = False

    @property
    def requirement(self) -> str:
        return self.package or self.name
