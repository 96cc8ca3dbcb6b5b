"""Banks from strangers, with checksums that fit: what is under them is refused by name, or is as it should be."""

import json
import struct

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.bank.source import decoded_ahead
from maskstore.errors import CorruptError, LimitError, MaskStoreError, SpecError
from maskstore.interop.merging import merge
from tests.helpers.commands import maskstore
from tests.helpers.forged_banks import Forge, layer_data, literal

NO_JSON = ("{", "5", "[1]", "null", '{"a":NaN}', '{"a":-Infinity}', '{"a":1e400}', '{"a":"\\ud800"}', '{"\\udfff":1}')


@pytest.fixture
def one_line(command):
    """Run a command line; what it says on standard error must be one line."""

    def run(*arguments: object) -> tuple[int, str]:
        code, _, said = command(*arguments)
        assert said.count("\n") <= 1
        assert len(said) < 1000
        return code, said

    return run


def test_what_is_forged_here_is_a_bank(tmp_path, one_line):
    path = Forge(tmp_path / "a.bank", meta='{"a":"\\u00e9\\ud83d\\ude00"}').row(meta='{"b":1.5}').done()
    assert one_line("verify", path) == (0, f"{path}: 1 masks, all as they were written\n")
    with MaskBank.open(path) as bank:
        assert bank.meta == {"a": "\u00e9\U0001f600"}
        assert bank["t"].flat().tolist() == [True, False] * 4


@pytest.mark.parametrize("text", NO_JSON)
def test_metadata_of_the_bank_that_is_no_json_object(tmp_path, one_line, text):
    path = Forge(tmp_path / "a.bank", meta=text).row().done()
    with pytest.raises(CorruptError, match=r"a\.bank: stored JSON: expected"):
        MaskBank.open(path)
    with pytest.raises(CorruptError):
        merge([str(path)], tmp_path / "b.bank")
    assert one_line("ls", path, "--json")[0] == 1


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize("column", ["meta", "codec", "prior"])
def test_texts_of_a_mask_that_are_no_json_objects(tmp_path, one_line, column, text):
    path = Forge(tmp_path / "a.bank").row(**{column: text}).done()
    for arguments in (("ls", path), ("ls", path, "--json"), ("verify", path), ("merge", path, tmp_path / "b.bank")):
        assert one_line(*arguments)[0] == 1
    assert one_line("export", path, tmp_path / "a.npz")[0] == 1


def test_templates_with_half_a_surrogate_pair(tmp_path):
    path = Forge(tmp_path / "a.bank", templates=json.dumps(["{}\ud800\n{}\n{}"])).row(about=b"\1").done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError):
        bank["t"]


@pytest.mark.parametrize("end", ['\\"' * 200_000, '"\\' * 200_000, '"' + "\\" * 200_001, '"' * 200_001])
def test_a_string_that_does_not_end_costs_no_more_than_its_length(tmp_path, end):
    """Were the cost quadratic, this would not come back."""
    path = Forge(tmp_path / "a.bank").row(about=literal('{"a":"' + end)).done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError):
        bank.infos()


@pytest.mark.parametrize("shape", [[0, 2**70], [1] * 65, [2**63 - 1, 0, 2**63 - 1]])
def test_extra_arrays_of_shapes_that_numpy_does_not_have(tmp_path, one_line, shape):
    header = json.dumps({"x": ["u1", shape]}).encode()
    extras = struct.pack("<I", len(header)) + header + b"\1" * (0 not in shape)
    path = Forge(tmp_path / "a.bank").row(extras=extras).done()
    with MaskBank.open(path) as bank, pytest.raises(CorruptError, match="expected its extra arrays"):
        bank.extras("t")
    assert one_line("verify", path)[0] == 1


@pytest.mark.parametrize("shape", [[0, 2**70], [2**40, 0], [int("9" * 4000)], [int("9" * 4000)] * 8])
def test_layers_of_shapes_that_numpy_does_not_have(tmp_path, one_line, shape):
    with pytest.raises(SpecError, match=r"expected at most 2\*\*33 bits"):
        MaskSpec({"a": shape})
    path = Forge(tmp_path / "a.bank", spec=json.dumps([["a", shape]])).done()
    assert "expected at most 2**33 bits" in one_line("ls", path)[1]


@pytest.mark.parametrize("id", [2**63 - 1, 2**62])
def test_no_id_is_left_for_another_mask(tmp_path, id):
    path = Forge(tmp_path / "a.bank").row(id).done()
    with MaskBank.open(path, "a") as bank:
        assert bank["t"].ones == 4
        with pytest.raises(CorruptError, match="expected ids"):
            bank.put("new", bank["t"])
        assert list(bank) == ["t"]


@pytest.mark.parametrize("chunk", [(2**63 - 1, 0, b"x"), (2**62, 0, b"x"), (100, None, None), (100, 0, None)])
def test_a_last_chunk_that_cannot_be_filled(tmp_path, chunk):
    path = Forge(tmp_path / "a.bank").row().chunk(*chunk).done()
    with MaskBank.open(path, "a") as bank:
        with pytest.raises(CorruptError, match="expected a last chunk that can be filled"):
            bank.put("new", bank["t"])
        assert list(bank) == ["t"]
        bank.delete("t")
    with MaskBank.open(path) as bank, pytest.raises(CorruptError):
        bank.verify()


def test_many_rows_that_share_their_bytes_are_not_all_read(tmp_path, one_line):
    forge = Forge(tmp_path / "a.bank").row(1, "t0")
    for i in range(1, 500):
        forge.row(i + 1, f"t{i}", start=0)
    path = forge.done()
    with MaskBank.open(path) as bank:
        assert bank["t499"] == bank["t0"]
        with pytest.raises(CorruptError, match=r"expected 3500 for all its masks, found 7"):
            bank.matrix()
    assert one_line("export", path, tmp_path / "a.shard")[0] == 1


def test_tables_that_share_their_pages(tmp_path, one_line):
    forge = Forge(tmp_path / "a.bank").row().chunk(50, 0, b"x")
    forge.link.execute("PRAGMA writable_schema=ON")
    roots = "SELECT rootpage FROM sqlite_schema WHERE name='chunks'"
    forge.link.execute(f"UPDATE sqlite_schema SET rootpage=({roots}) WHERE name='masks'")
    path = forge.done()
    with MaskBank.open(path) as bank:
        with pytest.raises(MaskStoreError):
            list(bank)
        with pytest.raises(MaskStoreError):
            bank["t"]
    for name in ("ls", "stats", "verify"):
        assert one_line(name, path)[0] == 1


def _page_forgeries() -> dict[str, tuple[int, bytes]]:
    """What to write where in the head of a page of a b-tree, to mislead who walks the tree."""
    return {
        "many cells": (3, b"\xff\xff"),
        "interior, without cells, of itself": (0, b"\x05\0\0\0\0\2\0\0\0\0\0%c"),
        "child beyond the file": (0, b"\x05\0\0\0\0\2\0\0\xff\xff\xff\xff"),
        "child 0": (0, b"\x05\0\0\0\0\2\0\0\0\0\0\0"),
        "interior": (0, b"\x05"),
        "index": (0, b"\x02"),
        "free blocks": (1, b"\0\x08"),
        "content begins at 0": (5, b"\0\0"),
    }


@pytest.mark.parametrize("forgery", _page_forgeries())
@pytest.mark.parametrize("size", [False, True], ids=["own size", "claims 2**32 pages"])
def test_trees_that_lead_astray(tmp_path, one_line, forgery, size):
    path = Forge(tmp_path / "a.bank").row(meta=json.dumps({"a": "x" * 3000})).done()
    original = path.read_bytes()
    at, new = _page_forgeries()[forgery]
    for page in range(2, 6):
        data = bytearray(original)
        begin = (page - 1) * 512 + at
        written = new.replace(b"%c", bytes([page]))
        data[begin : begin + len(written)] = written
        if size:  # SQLite believes this number only if the two counters beside it agree
            data[28:32], data[24:28], data[92:96] = b"\xff" * 4, b"\0\0\0\7", b"\0\0\0\x08"
        path.write_bytes(data)
        for arguments in (("stats", path), ("verify", path), ("ls", path), ("verify", path, "--json")):
            one_line(*arguments)
        assert one_line("verify", path)[0] == 1


def test_memory_is_taken_only_for_masks_that_are_there(tmp_path):
    """Rows that claim 4 TiB of masks between them, and hold none."""
    forge = Forge(tmp_path / "a.bank", spec=json.dumps([[f"l{i}", [2**31]] for i in range(8)]))
    data = layer_data(*[(b"\0", b"", b"")] * 8)
    for i in range(2000):
        forge.row(i + 1, f"t{i}", data, codec='{"id":"gap"}')
    path = forge.done()
    for limit, error, message in ((None, LimitError, "at most 1073741824 bytes"), (1 << 50, CorruptError, "CRC-32")):
        with MaskBank.open(path, limit=limit) as bank:
            for read in (bank.matrix, lambda bank=bank: next(bank.masks()), lambda b=bank: b.matrix(["t7"] * 2000)):
                with pytest.raises(error, match=message):
                    read()


def test_large_masks_are_decoded_few_at_a_time():
    assert decoded_ahead(MaskSpec({"a": (300, 784)})) == 64
    assert decoded_ahead(MaskSpec({"a": (2**30,)})) == 1
    assert decoded_ahead(MaskSpec({"a": (0,)})) == 64


def test_no_text_of_a_file_steers_the_terminal(tmp_path, capsys):
    evil = "\x1b]0;title\x07\x1b[2J\u202e\n\r\x9b31m[red]é"
    spec = json.dumps([[evil, [8]]])
    meta = json.dumps({evil: evil}, ensure_ascii=False).replace("\n", " ")
    path = Forge(tmp_path / "a.bank", spec=spec).row(name=evil, meta=meta).done()
    out = tmp_path / "x.npz"
    commands = [("ls", path), ("stats", path), ("diff", path, path), ("export", path, tmp_path / "a.npz")]
    commands += [("get", path, name, *more, "-o", out) for name in (evil, "no") for more in ([], ["--layer", "no"])]
    for arguments in commands:
        maskstore(*arguments)
        said = capsys.readouterr()
        assert (said.out + said.err).replace("\n", "").isprintable()
    maskstore("ls", path)
    assert "\\x1b" in capsys.readouterr().out


@pytest.mark.parametrize("tasks", [5, [5, None, ["x"]], {}])
def test_ls_shows_priors_of_any_fields(tmp_path, one_line, tasks):
    prior = json.dumps({"id": 5, "tasks": tasks, "given": {"id": None, "given": {}}})
    assert one_line("ls", Forge(tmp_path / "a.bank").row(prior=prior).done()) == (0, "")
