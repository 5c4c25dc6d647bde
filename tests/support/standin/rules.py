"""The rules of NVIDIA's backend that the stand-in has, and where upstream says each.

Places are file:line. Of 1.3.0rc3: `backend/` is triton_backend/inflight_batcher_llm/src/, `cpp/` is
cpp/tensorrt_llm/; the releases that are served, 1.0 to 1.2.1, lie between it and 0.19.0, and where those two agree they
are taken to agree as well. Of 0.10.0: tensorrtllm_backend's inflight_batcher_llm/src/, and cpp/tensorrt_llm/ of
TensorRT-LLM. The batch manager and the Executor of 0.10.0 came as binaries: what only they could say is CLOSED, and the
stand-in does there as 1.3.0rc3 does.

tests/triton/test_standin.py has a test for each, by its name, which fails if the stand-in drops it.
"""

from dataclasses import dataclass

CLOSED = "closed"
NONE = "not there"


@dataclass(frozen=True)
class Rule:
    """`new` is the place in 1.3.0rc3, `old` the one in 0.10.0."""

    says: str
    new: str
    old: str


RULES = {
    "outputs_by_name": Rule(
        "A request that names outputs must name output_ids and sequence_length: else each response is an error, and "
        "the Executor goes on for nobody.",
        "backend/model_instance_state.cc:1096,1109,1376",
        "model_instance_state.cc:684,697,823",
    ),
    "scores_unasked": Rule(
        "Without return_log_probs, output_log_probs is left out; 0.10.0 sends zeros, as many as the prompt has tokens.",
        "backend/model_instance_state.cc:1185",
        "model_instance_state.cc:760",
    ),
    "extras_unasked": Rule(
        "batch_index comes with a batch alone, sequence_index with several sequences, counts where they are asked for.",
        "backend/model_instance_state.cc:1218,1229,1263",
        NONE,
    ),
    "end_id_left_out": Rule(
        "The sequence does not grow by end_id: it is in no output_ids, and the last response has no tokens.",
        "cpp/kernels/samplingTopKKernels.cu:314; cpp/batch_manager/llmRequest.cpp:131",
        "cpp/kernels/samplingTopKKernels.cu:268; the response CLOSED",
    ),
    "stop_word_kept": Rule(
        "A stop word is the end of output_ids, and the last response has its last token; so it is at the last of "
        "request_output_len.",
        "cpp/kernels/stopCriteriaKernels.cu:32; cpp/batch_manager/llmRequest.cpp:114",
        "cpp/kernels/stopCriteriaKernels.cu; the response CLOSED",
    ),
    "new_tokens_only": Rule(
        "With streaming a response has the tokens of one iteration; without, there is one response with all.",
        "cpp/batch_manager/llmRequest.cpp:114",
        CLOSED,
    ),
    "scores_so_far": Rule(
        "output_log_probs are those of all tokens so far, in each response.",
        "cpp/batch_manager/llmRequest.cpp:156",
        CLOSED,
    ),
    "scores_normalised": Rule(
        "normalize_log_probs left out is true: then a score is of what the sampling leaves, and 0.0 where that is one "
        "token. Otherwise it is of all tokens, after temperature and penalties. (The stand-in normalises greedy "
        "scores alone.)",
        "backend/model_instance_state.cc:503; cpp/kernels/samplingTopKKernels.cu:285",
        "model_instance_state.cc:336; cpp/kernels/samplingTopKKernels.cu:257",
    ),
    "min_tokens": Rule(
        "min_tokens keeps end_id out, and no stop word.",
        "cpp/kernels/penaltyKernels.cu:243",
        "cpp/kernels/penaltyKernels.cu:174, which masks end_id -1 too: a write beside the logits",
    ),
    "greedy": Rule(
        "Without runtime_top_k and runtime_top_p the likeliest token is taken, whatever the temperature.",
        "backend/utils.cc:560; cpp/kernels/samplingTopKKernels.h:260",
        "utils.cc:384; cpp/layers/topKSamplingLayer.cu:53",
    ),
    "fields": Rule(
        "Every input is read as one type, from its bytes: seeds have 64 bits, words come as ids and ends, a bias has "
        "a number for each token.",
        "backend/utils.cc:545,415; backend/utils.h:242",
        "utils.cc:373,254; utils.h:152",
    ),
    "one_value": Rule(
        "A scalar that has other than one value is refused by Triton's call.",
        "backend/utils.h:250",
        "utils.h:160",
    ),
    "words": Rule(
        "Ends of words that do not rise, or lie beyond the ids, are refused by Triton's call.",
        "backend/utils.cc:420-439",
        "utils.cc:258-277",
    ),
    "bounds": Rule(
        "Values outside a field's bounds are refused by Triton's call, in the words of the source and with the stack.",
        "cpp/executor/samplingConfig.cpp:289-418; cpp/executor/requestImpl.h:498",
        CLOSED,
    ),
    "fetched": Rule(
        "What does not fit the engine, a prompt or an end_id, is refused by the Executor as it fetches the request.",
        "cpp/batch_manager/llmRequest.cpp:249,262; cpp/executor/executorImpl.cpp:1659",
        CLOSED,
    ),
    "clipped": Rule(
        "An answer that would pass the engine's longest sequence is cut there without an error.",
        "cpp/batch_manager/llmRequest.cpp:292",
        CLOSED,
    ),
    "longest_prompt": Rule(
        "The longest prompt is one token less than the longest sequence; without chunked context no more than "
        "max_num_tokens.",
        "cpp/batch_manager/trtGptModel.h:158,172",
        CLOSED,
    ),
    "no_restart": Rule(
        "With max_utilization and without chunked context, a stream that may pass the longest prompt is refused.",
        "cpp/executor/executorImpl.cpp:1555",
        "model_instance_state.cc:272: the policy becomes guaranteed_no_evict instead",
    ),
    "step_fails_for_all": Rule(
        "An error in a step ends every request under way, each with this error, and the Executor goes on. A bias of "
        "another width than the vocabulary is one.",
        "cpp/executor/executorImpl.cpp:1671,1791; cpp/batch_manager/createNewDecoderRequests.cpp:248",
        CLOSED,
    ),
    "unknown_guide": Rule(
        "A guide of a type that the backend does not know counts as none.",
        "backend/utils.cc:835",
        NONE,
    ),
    "guide_without_text": Rule(
        'A guide without its text is refused by Triton\'s call, but for type "json".',
        "cpp/executor/guidedDecodingParams.cpp:29",
        NONE,
    ),
    "guide_parameters": Rule(
        "Without tokenizer_dir, xgrammar_tokenizer_info_path and guided_decoding_backend the model does not load.",
        "backend/model_instance_state.cc:413-415",
        NONE,
    ),
    "batch": Rule(
        "A request of several prompts has responses for each, and the last of all is final; 0.10.0 takes the ids for "
        "one prompt, and refuses scalars of two values.",
        "backend/utils.cc:158; backend/model_instance_state.cc:1403",
        "utils.cc:529",
    ),
    "sequences": Rule(
        "num_return_sequences gives responses for each sequence, and the last of all is final.",
        "cpp/batch_manager/llmRequest.cpp:87; backend/model_instance_state.cc:1228",
        NONE,
    ),
    "prompt_in_output": Rule(
        "exclude_input_in_output=false gives the prompt's ids before the answer's, without streaming alone. 0.10.0 has "
        "it as a parameter of the model only.",
        "cpp/batch_manager/llmRequest.cpp:118; backend/utils.cc:920",
        "utils.cc:526; the response CLOSED",
    ),
    "stop": Rule(
        "A request with `stop` is answered at once by Triton's thread, with no outputs, whatever the Executor is at; "
        "one that has no id, with an error.",
        "backend/model_instance_state.cc:873",
        "model_instance_state.cc:519",
    ),
    "stopped": Rule(
        "A request that is stopped ends before the next iteration, with a last response of no tokens and no error.",
        "backend/model_instance_state.cc:895; cpp/executor/executorImpl.cpp:2159",
        "model_instance_state.cc:540; the rest CLOSED",
    ),
    "leak": Rule(
        "Every answer of Triton's thread, to a stop or to what it refuses, leaks a response factory, which holds the "
        "model: Triton then ends by its exit timeout.",
        "backend/model_instance_state.cc:862",
        "model_instance_state.cc:508",
    ),
    "cancel": Rule(
        "Whether a client has left is asked every cancellation_check_period_ms, whole milliseconds.",
        "backend/model_instance_state.cc:1549",
        "model_instance_state.cc:918",
    ),
    "hang": Rule(
        "While a step hangs the Executor fetches, cancels and answers nothing, and the iteration counter stands still.",
        "cpp/executor/executorImpl.cpp:2257",
        CLOSED,
    ),
    "metrics": Rule(
        "The families nv_trt_llm_* and their labels. (Without the histograms nv_llm_*_token_len of 1.x.)",
        "backend/custom_metrics_reporter/custom_metrics_reporter.cc:37-70",
        "custom_metrics_reporter/custom_metrics_reporter.cc:37-60",
    ),
}
