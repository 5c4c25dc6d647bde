"""The default system prompt, and Llama 3's prompt format."""

SYSTEM_PROMPT = (
    "You are a helpful, honest and careful assistant. Answer as clearly and as usefully as you can, "
    "and never help anyone to do harm. If a question makes no sense or rests on a mistake, say so and "
    "explain why. If you do not know the answer, say that you do not know."
)

# Llama 3's header format, from Meta's model card (llama3, "Prompt format").
PROMPT_TEMPLATE = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system_prompt}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{user_prompt}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)

# BentoTRTLLM's limit for one answer, in tokens.
MAX_TOKENS = 1024
