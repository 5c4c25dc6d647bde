from bento_trtllm.triton_models.openvino import lean  # noqa: F401  before OpenVINO
