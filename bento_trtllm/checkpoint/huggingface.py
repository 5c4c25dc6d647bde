"""Finds a checkpoint: a directory, or a Hugging Face id, which is downloaded into Hugging Face's cache."""

from pathlib import Path

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.checkpoint import TOKENIZER_FILES, Checkpoint, read_checkpoint
from bento_trtllm.errors import CheckpointError

FILES = ["config.json", prequantized.FILE, *TOKENIZER_FILES, "*.safetensors", "model.safetensors.index.json"]


def find_checkpoint(argument: str, revision: str | None = None) -> Checkpoint:
    """The checked checkpoint of a directory or, if there is no such directory, of a Hugging Face id.

    `revision` is a branch, a tag or a commit of a Hugging Face id. Raises CheckpointError, in one sentence.
    """
    path = Path(argument).expanduser()
    if path.is_dir():
        if revision is not None:
            raise CheckpointError(f"--revision goes with a Hugging Face id, but {argument} is a directory")
        return read_checkpoint(path.resolve(), argument)
    if path.exists():
        raise CheckpointError(f"{argument} is a file: name the directory of the checkpoint")
    if argument.startswith((".", "/", "~")) or argument.count("/") != 1 or argument.endswith("/"):
        raise CheckpointError(f"no such directory: {argument} (and a Hugging Face id has the form organization/name)")
    snapshot = _download(argument, revision)
    # The cache names a snapshot after its commit.
    return read_checkpoint(snapshot, argument, snapshot.name)


def _download(name: str, revision: str | None) -> Path:
    # Imported late: it takes a third of a second, and a directory needs none of it.
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        # Subfolders of a repository hold the same weights in other formats.
        folder = snapshot_download(name, revision=revision, allow_patterns=FILES, ignore_patterns=["*/*.safetensors"])
        return Path(folder)
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name} and set HF_TOKEN to a "
            "token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name} has no revision {revision} on Hugging Face") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"no such directory, and no such model on Hugging Face: {name} (if private, set HF_TOKEN)"
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"no such directory, and not a Hugging Face id either: {name}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        # If nothing is in the cache, the first error is raised as the second.
        cause = error if isinstance(error, HfHubHTTPError) else error.__cause__
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            way_out = "set HF_TOKEN to a valid token" if status in (401, 403) else "try again later"
            raise CheckpointError(f"Hugging Face refused {name} (HTTP {status}): {way_out}") from error
        raise CheckpointError(
            f"no such directory: {name}, and Hugging Face cannot be reached to download a model of that "
            "name: check the network, or name a directory"
        ) from error
    except OSError:
        raise
    except Exception as error:
        # The HTTP client's own errors when a download breaks off: a proxy, a timeout, a lost connection.
        raise CheckpointError(f"{name} could not be downloaded ({type(error).__name__}): try again") from error
