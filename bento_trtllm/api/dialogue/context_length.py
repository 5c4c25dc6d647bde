"""What fits into a model's context: the text of a prompt, and the answer behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bento_trtllm.api.errors import bad_request
from bento_trtllm.text.tokenizer import TextTooLong


@contextmanager
def within(context: int, *fields: str) -> Iterator[None]:
    """For reading text of these fields, which may be longer than the context. Raises APIError, for the first."""
    try:
        yield
    except TextTooLong as error:
        raise bad_request(
            f"This model's maximum context length is {context} tokens, prompt and answer together, and there is "
            f"more in {' and '.join(fields)}: send less.",
            param=fields[0],
            code="context_length_exceeded",
        ) from error


def answer_tokens(wanted: int | None, prompt: int, context: int, *, field: str, prompt_field: str) -> int:
    """How long an answer may be: what was asked for, or what the context holds. Raises APIError."""
    if prompt + (wanted or 1) <= context:
        return context - prompt if wanted is None else wanted
    answer = f" and {wanted} in the answer ({field})" if wanted else ""
    raise bad_request(
        f"This model's maximum context length is {context} tokens, prompt and answer together, and you asked for "
        f"{prompt + (wanted or 1)}: {prompt} in the prompt{answer or ', which leaves none for the answer'}.",
        param=field if wanted and prompt < context else prompt_field,
        code="context_length_exceeded",
    )
