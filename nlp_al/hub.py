"""The final model and the labelled set on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from nlp_al.config import PushToHub
from nlp_al.errors import RunError
from nlp_al.store import LABELLED, MODEL, RunDirectory

FOLDERS = {"model": MODEL, "dataset": LABELLED}
"""By the kind of a repository, what goes there."""

FILE = "pushed.json"
"""What was pushed last: by kind, the repository and a hash of the files."""


def push(store: RunDirectory, wanted: PushToHub) -> str:
    """Uploads each folder that has changed since it was pushed, in one commit; what went wrong, "" if nothing did."""
    wrong = []
    for kind, folder in FOLDERS.items():
        repository, source = getattr(wanted, kind), store.path / folder
        if repository is None or not (source / "README.md").exists():  # without its card a model is not a final one
            continue
        known, state = store.read_json(FILE) or {}, {"repository": repository, "content": _content(source)}
        if known.get(kind) == state:
            continue
        try:
            print(f"Pushed to {_upload(repository, kind, source, wanted.private)}", flush=True)
        except Exception as error:  # the client and what lies below it raise all kinds; each means: not pushed
            wrong.append(f"the {kind} {repository} ({_why(error, repository)})")
        else:
            store.write_json(FILE, {**known, kind: state})
    if not wrong:
        return ""
    kept = " and ".join(str(store.path / folder) for folder in FOLDERS.values() if (store.path / folder).exists())
    return (
        f"Not pushed to the Hub: {', '.join(wrong)}; everything is on the disk, in {kept}, and "
        f"`nlp-al finish {store.path}` tries again."
    )


def _upload(repository: str, kind: str, folder: Path, private: bool) -> str:
    """The address of the repository, which is made where there is none."""
    api = HfApi()
    address = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
    if private and not api.repo_info(repository, repo_type=kind).private:
        raise RunError("it is public, but push_to_hub.private is true: make it private there, or set that to false")
    api.upload_folder(
        repo_id=repository,
        repo_type=kind,
        folder_path=folder,
        commit_message=f"The {kind} of an active learning run",
        ignore_patterns=["nlp_al.json"],
    )
    return str(address)


def _content(folder: Path) -> str:
    """A hash of the files that are pushed."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "nlp_al.json":
            with path.open("rb") as file:
                part = hashlib.file_digest(file, "blake2b").hexdigest()
            digest.update(f"{path.relative_to(folder)} {part}\n".encode())
    return digest.hexdigest()


def _why(error: Exception, repository: str) -> str:
    """What went wrong, in words."""
    kinds = {kind.__name__ for one in (error, error.__cause__) if one is not None for kind in type(one).__mro__}
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RunError):
        return str(error)
    if status in (401, 403) or "LocalTokenNotFoundError" in kinds:
        owner = repository.split("/")[0]
        return f"the Hub refuses the access token: log in with `hf auth login`, or set HF_TOKEN, to write to {owner}"
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE is set"
    if kinds & {"ConnectError", "ConnectionError", "TimeoutException", "NetworkError"}:
        return "the Hub can't be reached"
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
