"""The fake at the GPU's boundary: NVIDIA's Triton backend `tensorrtllm`, without a GPU.

`backend/` is a backend of that name for the real tritonserver, in Python, which has the rules of NVIDIA's C++ backend
and Executor as far as their source says them (rules.py names file, line and release of each). Its tokens come from
OpenVINO, so that the demo model answers as it always does. It loads what `pack_model.py tensorrt` writes,
unchanged; the engine files alone are others (packing.py).
"""
