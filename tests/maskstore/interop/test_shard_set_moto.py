"""Shard sets against the S3 server of moto, over HTTP: multipart uploads, conditional puts, ranges.

moto is not among the packages that the tests install: botocore wants an older python-dateutil than the pinned one. The
other tests of shard sets have a server of their own.
"""

import os

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, errors, open_source
from maskstore.interop import ShardSet, write_shards
from tests.helpers.foreign_files import example_bank

pytestmark = pytest.mark.slow
pytest.importorskip("moto.server", reason='moto is not installed: pip install "moto[server]" boto3')
pytest.importorskip("obstore")


@pytest.fixture(scope="module")
def options():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"access_key_id": "key", "secret_access_key": "secret"}
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
    )
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield {"endpoint": endpoint, "region": "eu-west-1", **keys}
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_written_read_appended_and_refused(tmp_path, options):
    with example_bank(tmp_path / "a.bank", tasks=10) as bank:
        assert write_shards(bank, "s3://bucket/a", shards=3, options=options).shards == 3
        with ShardSet("s3://bucket/a", options=options, cache=tmp_path / "cache") as tasks:
            assert dict(tasks.masks()) == dict(bank.masks())
            assert tasks["task-7"] == bank["task-7"]
            assert tasks.verify() == 10
            early = tasks
            with example_bank(tmp_path / "b.bank", tasks=2, prefix="b-") as more:
                assert write_shards(more, "s3://bucket/a", append=True, options=options).generation == 2
            assert early.refresh()
            assert early["b-1"] == open_source(tmp_path / "b.bank")["b-1"]
        with pytest.raises(errors.BankExistsError):
            write_shards(bank, "s3://bucket/a", options=options)


@pytest.mark.filterwarnings("ignore")
def test_of_two_writers_one_is_told(tmp_path, options):
    from maskstore.interop.shards.engines import open_store

    with example_bank(tmp_path / "a.bank") as bank:
        write_shards(bank, "s3://bucket/b", options=options)
    store = open_store("s3://bucket/b", options)
    version = store.get("manifest", 0, 1 << 20).version
    store.swap("manifest", b"one", version)
    for stale in (version, None):
        with pytest.raises(errors.WriteConflictError):
            store.swap("manifest", b"two", stale)
    assert store.get("manifest", 0, 9).data == b"one"


@pytest.mark.filterwarnings("ignore")
def test_a_large_shard_goes_in_parts(tmp_path, options):
    rng = np.random.default_rng(0)
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (4000, 4000)})) as bank:
        for number in range(6):
            bank.put(f"task-{number}", {"fc": rng.random((4000, 4000)) < 0.5}, codec="raw")
        assert write_shards(bank, "s3://bucket/large", options=options).bytes > 10 << 20
        with ShardSet("s3://bucket/large", options=options) as tasks:
            assert tasks["task-5"] == bank["task-5"]


@pytest.mark.filterwarnings("ignore")
def test_the_environment_says_where_the_store_is(tmp_path, options, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
    monkeypatch.setenv("AWS_REGION", options["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])
    with example_bank(tmp_path / "a.bank") as bank:
        write_shards(bank, "s3://bucket/environment")
        with open_source("s3://bucket/environment") as tasks:
            assert isinstance(tasks, ShardSet)
            assert tasks["task-1"] == bank["task-1"]
    assert os.environ["AWS_REGION"] == "eu-west-1"
