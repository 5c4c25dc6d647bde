"""What can go wrong, as one sentence that names the cause and the way out.

The command line prints these and exits with 2; the service answers with them. None is ever shown as a
traceback.
"""


class BentoTRTLLMError(Exception):
    """The base of every error that is meant for the person who runs the command or sends the request."""


class CheckpointError(BentoTRTLLMError):
    """The checkpoint is missing, damaged, or not one that the chosen engine can run."""


class StoreError(BentoTRTLLMError):
    """The BentoML model store lacks the model, already has one of that tag, or has one that is damaged."""


class EngineError(BentoTRTLLMError):
    """The engine could not be built, or is not the one this machine can run."""


class SettingsError(BentoTRTLLMError):
    """A setting that there is not, or with a value that it cannot have."""


class TritonError(BentoTRTLLMError):
    """tritonserver was not found, did not start, or ended."""
