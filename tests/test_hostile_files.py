"""Files that somebody made to do harm, or that no program should have written: one line, at once, and nothing left."""

import errno
import io
import os
import re
import resource
import struct
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pyarrow
import pytest
import yaml
from click.testing import CliRunner
from pyarrow import parquet

import pipelines
import tuning.cli
import zoo.cli.main
from pipelines import Events, InputError
from pipelines.events.files import reading

MASS = np.linspace(2000.0, 3000.0, 50)


def npy(header):
    text = header.encode()
    text += b" " * (63 - (12 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + bytes(800)


def npz(change=lambda content: content, **arrays):
    file = io.BytesIO()
    np.savez(file, **{"mjj": MASS, "x": MASS, **arrays})
    return change(bytearray(file.getvalue()))


def members(content, central, local, change):
    """Change a byte of every member of a ZIP, in its central and in its local header."""
    for start, offset in ((b"PK\1\2", central), (b"PK\3\4", local)):
        for found in re.finditer(re.escape(start), bytes(content)):
            content[found.start() + offset] = change(content[found.start() + offset])
    return content


def twice():
    file, one = io.BytesIO(), io.BytesIO()
    np.save(one, MASS)
    with zipfile.ZipFile(file, "w") as folder:
        folder.writestr("mjj.npy", one.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            folder.writestr("mjj.npy", one.getvalue())
    return file.getvalue()


def claims(rows, path):
    """Some kB that claim any number of events."""
    with h5py.File(path, "w") as file:
        for name, shape in (("features", (rows, 1)), ("mass", (rows,))):
            file.create_dataset(name, shape, "f4", chunks=(65536, *shape[1:]))
        file.attrs["columns"], file.attrs["schema_version"] = ["x"], 1


def bomb():
    text = "&a0 [1,1,1,1,1,1,1,1,1,1]"
    for i in range(1, 9):
        text = f"&a{i} [{text}," + ",".join([f"*a{i - 1}"] * 9) + "]"
    return f"alpha: {{min: {text}}}\n".encode()


def nul_parquet(path):
    parquet.write_table(pyarrow.table({"mjj": MASS, "x\0y": MASS}), path)


TABLES = {  # by name of the file: its content, or what writes it, and what is said
    "parentheses.npy": (npy("{'descr': (((("), "cannot be read"),
    "minus.npy": (npy("-" * 60_000 + "1"), ""),
    "true.npy": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2), }"), "shape"),
    "rows.npy": (npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**61}, 2), }}"), ""),
    "encrypted.npz": (npz(lambda b: members(b, 8, 6, lambda byte: byte | 1)), "encrypted"),
    "method.npz": (npz(lambda b: members(b, 10, 8, lambda byte: 99)), ""),
    "twice.npz": (twice, "twice"),
    "complex.npz": (npz(x=MASS + 1j), "x"),
    "dates.npz": (npz(x=MASS.astype("M8[s]")), "x"),
    "nul.parquet": (nul_parquet, ""),
    "wide.csv": (b"mjj," + b",".join(b"c%d" % i for i in range(100_000)) + b"\n3000," + b",".join([b"1"] * 100_000) + b"\n", "columns"),
    "header.csv": (b"mjj,x\0y\n3000,1\n", ""),
    "latin1.csv": ("mjj,énergie\n3000,1\n".encode("latin-1"), "UTF-8"),
}  # fmt: skip


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Give a command; return the line that refuses it, at once, with nothing left behind."""
    monkeypatch.chdir(tmp_path)

    def give(program, *words):
        before = sorted(os.listdir())
        started = time.process_time()
        done = CliRunner().invoke({"zoo": zoo.cli.main.main, "tune": tuning.cli.main}[program], [*map(str, words)])
        assert done.exit_code == 2 and done.stdout == "", done.output
        (line,) = done.stderr.splitlines()
        assert time.process_time() - started < 10 and sorted(os.listdir()) == before
        assert line.startswith("Error: ") and len(line) < 2000
        return line

    return give


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_is_refused_in_a_line_that_names_it(name, refused, tmp_path):
    content, said = TABLES[name]
    if name == "nul.parquet":
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content() if callable(content) else content)
    more = ["--columns", "mjj,x"] if name.endswith(".npy") else []
    line = refused("zoo", "data", "convert", name, "o.h5", "--mass", "mjj", *more)
    assert name in line and said in line


@pytest.mark.parametrize("rows", [2**31, 2**40, 2**62])
@pytest.mark.parametrize("command", ["data split huge.h5 a.h5 b.h5 --events 2", "data info huge.h5"])
def test_a_file_that_claims_more_events_than_it_holds_takes_neither_time_nor_memory(command, rows, refused, tmp_path):
    claims(rows, tmp_path / "huge.h5")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "huge.h5" in refused("zoo", *command.split())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 500_000  # kB


@pytest.mark.parametrize("kind", ["fifo", "device", "loop"])
def test_what_is_no_regular_file_is_refused_and_nobody_waits(kind, refused, tmp_path):
    path = tmp_path / "a.csv"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert "a.csv" in refused("zoo", "data", "convert", "a.csv", "o.h5", "--mass", "mjj")
    assert "a.csv" in refused("zoo", "data", "info", "a.csv")


SPACES = {
    "? [a, b]\n: 1\n": "", "alpha: 2001-99-99\n": "alpha", "alpha: !!int abc\n": "", "alpha: !!bool abc\n": "",
    f"alpha: {'9' * 5000}\n": "", f"alpha: {'[' * 3000}{']' * 3000}\n": "deep", "latent_dim: 1000000000\n": "latent_dim",
    "alpha: {min: 1, max: .inf}\n": "alpha", "a: &a [*a]\n": "", "alpha: 1\nalpha: 2\n": "twice", "\0": "",
    "'alpha\ud800': 1": "",
}  # fmt: skip


@pytest.mark.parametrize("text", SPACES)
def test_a_space_that_is_none_is_refused_in_a_line_that_names_it(text, refused, tmp_path):
    (tmp_path / "s.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    line = refused("tune", "space", "vae", "--space", "s.yaml")
    assert "s.yaml" in line and SPACES[text] in line


def test_anchors_are_refused_before_they_grow(refused, tmp_path):
    (tmp_path / "s.yaml").write_bytes(bomb())
    assert len(bomb()) < 400 and "s.yaml" in refused("tune", "space", "vae", "--space", "s.yaml")


@pytest.mark.parametrize("words", [
    "--toys 10000000000", "--bins 1000000000000", "--percentile 1e400", "--widths 0 3", "--mass-range nan 3", "--folds 1000000000",
])  # fmt: skip
def test_numbers_that_no_machine_has_room_for_are_refused_at_once(words, refused, tmp_path):
    (tmp_path / "s.csv").write_text("score\n1\n2\n")
    line = "hunt --scores s.csv --data lhco_sim_test --out h"
    refused("zoo", *line.split(), *words.split())


def test_names_of_very_many_columns_are_checked_in_linear_time(tmp_path):
    seconds = []
    for number in (1000, 4000):
        columns = [f"c{i}" for i in range(number)]
        started = time.process_time()
        Events.from_arrays(np.zeros((2, number)), [3e3, 3e3], columns)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 8 * seconds[0] + 0.1


SPACE_FILES = [
    "? [a, b]\n: 1\n",
    "alpha: 2001-99-99\n",
    f"alpha: {'9' * 5000}\n",
    f"alpha: {'[' * 3000}\n",
    bomb().decode(),
]


@pytest.mark.parametrize("text", SPACE_FILES)
def test_a_search_reads_the_file_of_its_space_before_tensorflow_is_imported(text, refused, tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text(text)
    monkeypatch.setattr("tuning.cli.quiet_zoo", lambda: pytest.fail("TensorFlow is imported"))
    assert "s.yaml" in refused(
        "tune", *["--model", "vae", "--trials", "1", "--data", "lhco_sim_train", "--space", "s.yaml", "--out", "o"]
    )


# -- code of others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, said", [
    ("x = Model\n", "cannot be imported (NameError: name 'Model' is not defined; line 1 of "),
    ("class MyModle:\n    pass\n", "others.{0} has no MyModel; near: MyModle"),
    ("import nosuchmodule\n", "No module named 'nosuchmodule'"),
    ("MyModel = 3\n", "is int, expected a subclass of zoo.AnomalyModel"),
    ("def f(:\n", "cannot be imported (SyntaxError"),
])  # fmt: skip
def test_a_faulty_model_of_another_package_is_told_as_theirs(text, said, refused, tmp_path):
    name = f"m{abs(hash(text))}"
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / f"{name}.py").write_text(text)
    import tensorflow  # noqa: F401  (which the command imports, and the time of that is not meant)

    line = refused("zoo", "check", f"others.{name}.MyModel")
    assert said.format(name) in line


def test_the_template_for_a_model_is_whole(tmp_path, monkeypatch):
    """What CONTRIBUTING.md has to be copied is a module that can be imported and makes a model."""
    from pathlib import Path

    import zoo
    from zoo import conformance, registry

    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    (tmp_path / "a_model.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    model = __import__("a_model").MyModel
    assert zoo.get("my_model", latent_dim=3).hp.latent_dim == 3 and len(text.splitlines()) <= 45
    (claim,) = conformance.check(model, {}, "what the model infers*")
    assert claim.holds, claim.reason


# -- causes that are known ----------------------------------------------------------------------------------


WRITER = "import h5py, sys\nwith h5py.File(sys.argv[1], 'a'): print('open', flush=True); sys.stdin.read()"


def test_a_file_that_another_program_writes_is_not_called_damaged(tmp_path):
    pipelines.open("lhco_sim_train").sample(50).write(tmp_path / "busy.h5")
    line = [sys.executable, "-c", WRITER, str(tmp_path / "busy.h5")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=r"busy\.h5: another program has it open to write to it; wait"):
            pipelines.open(tmp_path / "busy.h5")
        other.stdin.close()
    assert len(pipelines.open(tmp_path / "busy.h5")) == 50


def test_an_error_that_is_no_damage_is_not_called_damage(tmp_path):
    with pytest.raises(InputError) as error, reading(tmp_path / "a.h5"):
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.h5"))
    assert "damaged" not in str(error.value) and "ermission denied" in str(error.value)


def test_events_are_read_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    pipelines.open("lhco_sim_train").sample(50).write(tmp_path / "a.h5")
    real, locked = h5py.File, []

    def without_locks(path, mode="r", **options):
        if options.get("locking") is not False:
            locked.append(path)
            raise BlockingIOError(f"unable to lock file, errno = {errno.ENOLCK}, error message = 'No locks available'")
        return real(path, mode, **options)

    monkeypatch.setattr("pipelines.events.hdf5_files.h5py.File", without_locks)
    assert len(pipelines.open(tmp_path / "a.h5").read("features")) == 50 and locked


def test_a_document_that_fits_no_schema_is_told_by_its_field(tmp_path):
    from pipelines.documents import read_yaml_document

    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"a": {"b": "x"}}))
    with pytest.raises(InputError, match=r"b\.yaml: a\.b is 'x', input should be a valid integer"):
        read_yaml_document(tmp_path / "b.yaml", dict[str, dict[str, int]])


def test_features_are_never_numbers_of_a_frame_that_are_none():
    import pandas

    from zoo.tables import column_names, read_columns

    for values in (["1.5", "2.5"], pandas.to_datetime(["2026-01-01", "2026-01-02"]), [1j, 2j]):
        frame = pandas.DataFrame({"x": values})
        with pytest.raises(InputError, match="are no numbers"):
            read_columns(frame, ["x"], column_names(frame))
