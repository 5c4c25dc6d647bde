"""A conversation, understood: what to ask the core for, and how to read the answer."""

from dataclasses import dataclass

from bento_trtllm.api.dialogue.context_length import answer_tokens, within
from bento_trtllm.api.dialogue.conversation import Conversation, Names, Toolbox
from bento_trtllm.api.dialogue.fields import SamplingFields
from bento_trtllm.api.dialogue.forms import compile_auto, compile_calls, compile_form
from bento_trtllm.api.dialogue.reader import AnswerReader
from bento_trtllm.api.dialogue.sampling import read_sampling
from bento_trtllm.api.dialogue.thoughts import OPEN, Thinking, ThoughtReader
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.tools.formats import ToolFormat
from bento_trtllm.generation.parameters import GenerationRequest

# How many tokens hold a prompt's last mark and the white space behind it, even at a character each.
TAIL = 16


@dataclass(frozen=True)
class Chat:
    """A request, understood; `echo` is the text that its answers are shown to begin with."""

    request: GenerationRequest
    tools: Toolbox
    format: ToolFormat
    thinking: Thinking = "no"
    top_logprobs: int | None = None
    echo: str = ""

    def reader(self) -> AnswerReader:
        """For one answer."""
        thoughts = None if self.thinking == "no" else ThoughtReader(begun=self.thinking == "begun")
        tools = self.tools.callable
        return AnswerReader(thoughts, self.format.parser(tools, several=self.tools.several) if tools else None)


def prompt(conversation: Conversation, model: ServedModel, names: Names) -> list[int]:
    """Token ids of a conversation. Raises APIError, and CheckpointError where the template refuses the messages."""
    tools = list(conversation.tools.described) if conversation.tools.callable else None
    with within(model.manifest.context_length, names.messages, *(("tools",) if tools else ())):
        return model.template.chat(
            conversation.messages, tools, continued=conversation.continued, **conversation.variables
        )


def understand(
    conversation: Conversation, sampling: SamplingFields, model: ServedModel, names: Names | None = None
) -> Chat:
    """Raises APIError, and CheckpointError where the template refuses the messages."""
    names = names or Names()
    input_ids = prompt(conversation, model, names)
    wanted = conversation.max_tokens
    if conversation.up_to_context and wanted and len(input_ids) + wanted > model.manifest.context_length:
        wanted = None
    max_tokens = answer_tokens(
        wanted,
        len(input_ids),
        model.manifest.context_length,
        field=names.max_tokens,
        prompt_field=names.messages,
    )
    thinking: Thinking = "no"
    if model.thinks:
        thinking = "begun" if model.tokenizer.spell(input_ids[-TAIL:]).rstrip().endswith(OPEN) else "may"
    grammar = None
    if conversation.tools.forced:
        grammar = compile_calls(conversation.tools, conversation.answers, model.tool_format, thinking)
    elif conversation.form is not None:
        grammar = compile_form(conversation.form, conversation.answers, thinking)
    elif conversation.tools.callable and model.generator.guided and _may_be_guided(conversation, sampling):
        grammar = compile_auto(conversation.tools, model.tool_format, thinking)
    top = conversation.top_logprobs
    chosen = read_sampling(sampling, model.defaults, model.manifest, grammar=grammar, top_logprobs=top)
    asked = GenerationRequest(input_ids, max_tokens, chosen, conversation.token_ids)
    return Chat(asked, conversation.tools, model.tool_format, thinking, top)


def _may_be_guided(conversation: Conversation, sampling: SamplingFields) -> bool:
    """Whether a grammar, which nobody asked for, goes with everything that was asked for."""
    others = (
        conversation.top_logprobs,
        sampling.stop,
        sampling.stop_token_ids,
        sampling.ignore_eos,
        sampling.min_tokens,
        sampling.logit_bias,
        sampling.skip_special_tokens is False,
    )
    return not any(others)
