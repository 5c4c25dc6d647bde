"""The fake at the GPU's boundary for the PyTorch engine: the Python package tensorrt_llm, without a GPU.

`module/` is what our Triton model imports in the container. What its classes take and give is not written here but read
out of upstream's source, at the container's version (api.py): a name that is not there is an error. Behind them stands
the Executor of tests/support/standin, whose tokens come from OpenVINO.
"""
