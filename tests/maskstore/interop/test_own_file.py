"""An export never destroys the bank that it reads, and a copied reader keeps its limit."""

import copy
import pickle

import pytest

from maskstore.errors import BankExistsError, LimitError
from maskstore.interop import ShardReader, write_npz, write_safetensors, write_shard
from tests.helpers.foreign_files import example_bank


@pytest.mark.parametrize("write", [write_npz, write_safetensors, write_shard])
@pytest.mark.parametrize("name", ["{}/a.bank", "{}/link", "{}/a.bank-wal", "file://{}/a.bank"])
def test_an_export_onto_its_own_bank_is_refused(tmp_path, write, name):
    if name.startswith("file:") and write is not write_shard:
        pytest.skip("only shards are written to URLs")
    (tmp_path / "link").symlink_to(tmp_path / "a.bank")
    with example_bank(tmp_path / "a.bank") as bank:
        with pytest.raises(BankExistsError, match="expected a file that holds no bank"):
            write(bank, name.format(tmp_path), overwrite=True)
        assert bank.verify() == len(bank)


def test_a_shard_is_written_anew_through_a_file_url(tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        url = f"file://{tmp_path}/a.shard"
        write_shard(bank, url)
        with pytest.raises(BankExistsError, match="found one"):
            write_shard(bank, url)
        write_shard(bank, url, overwrite=True)
        with ShardReader(url) as shard:
            assert dict(shard.items()) == dict(bank.items())


@pytest.mark.parametrize("copied", [copy.copy, lambda reader: pickle.loads(pickle.dumps(reader))])
def test_a_copied_reader_keeps_its_limit(tmp_path, copied):
    with example_bank(tmp_path / "a.bank") as bank:
        name = next(iter(bank))
        write_shard(bank, tmp_path / "a.shard")
    with ShardReader(tmp_path / "a.shard", limit=1) as reader, copied(reader) as again:
        assert again.limit == 1
        with pytest.raises(LimitError):
            again[name]


@pytest.mark.parametrize("name", [[], {}, None, 3])
def test_what_cannot_be_a_name_is_in_no_shard(tmp_path, name):
    with example_bank(tmp_path / "a.bank") as bank:
        write_shard(bank, tmp_path / "a.shard")
    with ShardReader(tmp_path / "a.shard") as shard:
        assert name not in shard
        with pytest.raises(KeyError, match="expected one of"):
            shard[name]
