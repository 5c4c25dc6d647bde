"""What can go wrong, as one sentence that names the cause and the remedy.

The command line prints these and exits with 2; the service answers with them. None is ever shown as a traceback.
"""


class BentoTRTLLMError(Exception):
    """The base of every error that is meant for the person who runs the command or sends the request."""


class CheckpointError(BentoTRTLLMError):
    """The checkpoint is missing, damaged, or not one that the chosen engine can run."""


class StoreError(BentoTRTLLMError):
    """The BentoML model store lacks the model, already has one with that tag, or has a damaged one."""


class EngineError(BentoTRTLLMError):
    """The engine could not be built, or cannot run on this machine."""


class SettingsError(BentoTRTLLMError):
    """A setting does not exist, or has an invalid value."""


class TritonError(BentoTRTLLMError):
    """tritonserver was not found, did not start, or ended."""
