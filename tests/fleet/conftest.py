"""What tests of fleets share: an object store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fleets
import pytest


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an S3-compatible server, which is gone when other tests begin."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with fleets.object_store() as url:
        yield url


@pytest.fixture
def bucket(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket; the credentials are in the environment, as for a user."""
    import s3fs

    for key, value in {
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"models-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a folder in this process."""
    import fsspec

    name = uuid.uuid4().hex
    yield f"memory://{name}"
    files = fsspec.filesystem("memory")
    if files.exists(name):
        files.rm(name, recursive=True)


@pytest.fixture(params=["folder", "s3", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A destination of each kind."""
    if request.param == "folder":
        return str(tmp_path / "folded")
    return f"{request.getfixturevalue({'s3': 'bucket'}.get(request.param, request.param))}/folded"
