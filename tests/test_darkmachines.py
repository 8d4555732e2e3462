"""Dark Machines files: every number against a plain loop over lines, the channels, the truth, and what is refused.

Takes about half a minute, most of it for code that is compiled, workers that start and a process that is killed.
"""

import gzip
import io
import itertools
import math
import os
import signal
import subprocess
import sys
import tarfile
import time

import h5py
import numpy as np
import pytest

from pipelines import Events, InputError
from pipelines.datasets import darkmachines, recognise
from pipelines.datasets.darkmachines import COLUMNS, select_channel
from pipelines.datasets.darkmachines_lines import read_block, read_line, sound_line

PAPER = (  # the example of arXiv 2105.14027, section 2.2
    "94;ttbar;1;112288;1.74766;b,331927,147558,-1.44969,-1.76399;j,100406,85589,-0.568259,-1.17144;"
    "b,55808.8,54391.4,-0.198215,1.726"
)
NAMES = ["j", "b", "m+", "m-", "e+", "e-", "g"]
FIRST = {"j": 0, "b": 15, "m+": 19, "m-": 23, "e+": 27, "e-": 31, "g": 35}  # first slots
PROCESSES = ["ttbar", "njets", "4top", "stlp_st1000", "chacha_cha600_neut200"]


# -- a plain implementation, and files for it -------------------------------------------------------------------


def plain_event(line):
    """Process, weight, MET, METphi, {type: [(E, pt, eta, phi) by falling pt]}, energies in GeV, of one sound line."""
    fields = [field.strip() for field in line.strip("\r\n").split(";")]
    process, weight, met, met_phi = fields[1], float(fields[2]), float(fields[3]) / 1000, float(fields[4])
    objects, ht = {name: [] for name in NAMES}, 0.0
    for field in filter(None, fields[5:]):
        name, energy, pt, eta, phi = (part.strip() for part in field.split(","))
        name = name.replace("mu", "m")
        objects[name].append((float(energy) / 1000, float(pt) / 1000, float(eta), float(phi)))
        if name in "jb":
            ht += float(pt) / 1000
    return process, weight, met, met_phi, ht, {k: sorted(v, key=lambda p: -p[1]) for k, v in objects.items()}


def plain_features(met, met_phi, ht, objects):
    leptons = sorted(itertools.chain(*(objects[name] for name in ("m+", "m-", "e+", "e-"))), key=lambda p: -p[1])
    jets = sorted(objects["j"] + objects["b"], key=lambda p: -p[1])[:2]
    total = [0.0, 0.0, 0.0, 0.0]
    for energy, pt, eta, phi in jets:
        for i, part in enumerate((energy, pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta))):
            total[i] += part
    square = total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2
    row = {"MET": met, "METphi": met_phi, "HT": ht, "meff": ht + met}
    row |= {f"n_{name.replace('m', 'mu')}": len(objects[name]) for name in NAMES}
    row["m_jj"] = math.sqrt(max(0, square)) if len(jets) == 2 else 0.0
    for name, found, most in (
        ("j", objects["j"], 4),
        ("b", objects["b"], 2),
        ("l", leptons, 3),
        ("g", objects["g"], 1),
    ):
        for place in range(most):
            energy, pt, eta, phi = found[place] if place < len(found) else (0.0, 0.0, 0.0, met_phi)
            dphi = math.remainder(phi - met_phi, 2 * math.pi)
            row |= {f"E_{name}{place + 1}": energy, f"pt_{name}{place + 1}": pt}
            row |= {f"eta_{name}{place + 1}": eta, f"dphi_{name}{place + 1}": dphi}
    return [row[column] for column in COLUMNS]


def plain_objects(objects):
    rows = np.zeros((39, 5))
    for code, name in enumerate(NAMES, 1):
        for place, momentum in enumerate(objects[name][: 15 if name == "j" else 4]):
            rows[FIRST[name] + place] = (*momentum, code)
    return rows


def a_number(rng, value):
    """Text of a number as it may be written: six digits, as in the challenge, or otherwise."""
    style = rng.choice(5, p=[0.8, 0.05, 0.05, 0.05, 0.05])
    return (f"{value:.6g}", f"{value:.3e}", repr(float(value)), f"{value:+.4f}", f"{value:.18E}")[style]


def a_line(rng, number, most=30):
    """A line of random objects in random order."""
    count = 0 if rng.random() < 0.1 else rng.integers(most + 1)
    objects = []
    for name in rng.choice(NAMES, count, p=[0.55, 0.15, 0.06, 0.06, 0.06, 0.06, 0.06]):
        pt, eta = 15_000 + rng.exponential(80_000), rng.uniform(-2.8, 2.8)
        pt = 50_000.0 if rng.random() < 0.05 else pt  # the same pt more than once
        numbers = (1.01 * pt * np.cosh(eta), pt, eta, rng.uniform(-np.pi, np.pi))
        name = name.replace("m", "mu") if rng.random() < 0.1 else name
        objects.append(",".join([name, *(a_number(rng, value) for value in numbers)]))
    head = [str(number), rng.choice(PROCESSES), a_number(rng, rng.exponential())]
    head += [a_number(rng, rng.exponential(150_000)), a_number(rng, rng.uniform(-np.pi, np.pi))]
    separator = "; " if rng.random() < 0.05 else ";"
    return separator.join([*head, *objects]) + rng.choice(["", ";", " ;"], p=[0.4, 0.5, 0.1])


@pytest.fixture(scope="module")
def lines():
    rng = np.random.default_rng(7)
    return [a_line(rng, number) for number in range(1500)]


@pytest.fixture(scope="module")
def file(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("raw") / "background_chan3.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def write(tmp_path):
    def write(*rows, name="events.csv", end="\n"):
        (tmp_path / name).write_text(end.join(rows) + end, newline="")
        return tmp_path / name

    return write


def arrays(path):
    with h5py.File(path) as found:
        return {name: found[name][:] for name in found}


def same(first, second):
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and np.array_equal(first[k], second[k]) for k in first
    )


@pytest.fixture(scope="module")
def converted(file, tmp_path_factory):
    """The file converted in one chunk, and what was counted."""
    out = tmp_path_factory.mktemp("whole") / "events.h5"
    outcome = darkmachines.convert(file, out)
    return out, outcome


# -- numbers -----------------------------------------------------------------------------------------------------


def test_example_of_the_paper_is_what_the_paper_says_of_it(write, tmp_path):
    out = tmp_path / "events.h5"
    darkmachines.convert(write(PAPER), out)
    events = Events.from_file(out)
    row = dict(zip(events.columns, events.read("features")[0].tolist()))
    assert (row["n_b"], row["n_j"]) == (2, 1)
    assert row["E_b1"] == np.float32(331.927) and row["E_b2"] == np.float32(55.8088)
    assert row["E_j1"] == np.float32(100.406)
    assert row["HT"] == np.float32(147.558 + 85.589 + 54.3914)
    assert row["meff"] == events.mass[0] == np.float32(147.558 + 85.589 + 54.3914 + 112.288)
    assert events.about.process_names == {4: "ttbar"} and events.about.label_names == {0: "background"}


def test_every_number_is_bit_by_bit_what_python_makes_of_it():
    rng = np.random.default_rng(3)
    values = [*rng.normal(size=2000).tolist(), *(10.0 ** rng.uniform(-25, 25, 2000)).tolist(), 0.1, 1e22, 1e23]
    texts = [
        style.format(v) for v in values for style in ("{:.6g}", "{!r}", "{:.3e}", "{:+.15g}", "{:.25f}", "{:.0f}.")
    ]
    texts += ["-0", "-0.0", "00012.50", ".5", "5.", "1E+05", "1e-05", "1e0022", "4e-320"]
    texts += [
        "9007199254740993",
        "9007199254740992.5",
        "900719925474098e14",
        "9007199254740981",
        "900719925474099100000",
        "-9.0071992547409911",
        "900719925474098e-22",
        "9007199254740991e-22",
    ]
    block = read_block("\n".join(f"1;njets;{text};1;0" for text in texts).encode())
    assert not len(block.broken)
    expected = np.array([float(text) for text in texts])
    assert np.array_equal(block.weight.view(np.int64), expected.view(np.int64))


def test_ordinary_numbers_are_read_by_the_compiled_code():
    from pipelines.datasets import darkmachines_scan

    text = (PAPER + "\n").encode()
    counts = darkmachines_scan.scan(np.frombuffer(text, np.uint8), 1, text.count(b";"))[3]
    assert counts.tolist() == [3]


def test_events_are_those_of_a_plain_loop_over_lines(lines, converted):
    out, outcome = converted
    found, expected = arrays(out), [plain_event(line) for line in lines]
    assert outcome.events == len(lines) == len(found["mass"])
    objects = np.array([plain_objects(e[5]) for e in expected])
    assert np.array_equal(found["objects"], objects.astype(np.float32))
    features = np.array([plain_features(*e[2:]) for e in expected])
    np.testing.assert_allclose(found["features"], features, rtol=1e-6, atol=2e-6)
    exact = [i for i, c in enumerate(COLUMNS) if not c.startswith(("m_jj", "dphi"))]
    assert np.array_equal(found["features"][:, exact], features[:, exact].astype(np.float32))
    assert np.array_equal(found["weight"], np.float32([e[1] for e in expected]))
    assert np.array_equal(found["mass"], found["features"][:, COLUMNS.index("meff")])
    total = sum(len(v) for e in expected for v in e[5].values())
    assert outcome.counts["objects without a slot"] == total - (objects[..., 4] > 0).sum() > 0


def test_slots_are_the_matrix_of_39_particles_and_the_type_is_its_mask(converted):
    events = Events.from_file(converted[0])
    objects, mask = events.read("objects"), events.read("mask")
    assert objects.shape[1:] == (39, 5) and events.about.object_columns == ("E", "pt", "eta", "phi", "type")
    assert np.array_equal(mask, objects[..., 4] > 0) and not objects[~mask].any()
    code = np.repeat(np.arange(1, 8), darkmachines.SLOTS)
    assert (objects[..., 4] == np.where(mask, code, 0)).all()


def test_truncated_objects_are_the_leading_ones_of_the_others(file, converted, tmp_path):
    outcome = darkmachines.convert(file, tmp_path / "short.h5", truncated=True)
    whole, short = arrays(converted[0]), arrays(tmp_path / "short.h5")
    expected = np.concatenate([whole["objects"][:, :4]] + [whole["objects"][:, s : s + 3] for s in range(15, 39, 4)], 1)
    assert np.array_equal(short["objects"], expected) and expected.shape[1] == 22
    assert np.array_equal(short["features"], whole["features"])
    left = outcome.counts["objects without a slot"] - converted[1].counts["objects without a slot"]
    assert left == (whole["objects"][..., 4] > 0).sum() - (expected[..., 4] > 0).sum() > 0


def test_dijet_mass_of_two_massless_jets_back_to_back_is_twice_their_momentum(write, tmp_path):
    path = write("1;njets;1;0;0;j,100000,100000,0,0;b,100000,100000,0,3.141592653589793", "2;njets;1;0;0;j,1e5,1e5,0,0")
    darkmachines.convert(path, tmp_path / "events.h5")
    assert Events.from_file(tmp_path / "events.h5").read("features")[:, COLUMNS.index("m_jj")].tolist() == [200, 0]


def test_many_jets_of_one_event_keep_the_fifteen_hardest_in_order(write, tmp_path):
    pts = np.random.default_rng(0).permutation(np.arange(20, 50))
    write("1;njets;1;0;0;" + ";".join(f"j,{pt * 2000},{pt * 1000},0,0" for pt in pts))
    darkmachines.convert(tmp_path / "events.csv", tmp_path / "events.h5")
    events = Events.from_file(tmp_path / "events.h5")
    assert events.read("objects")[0, :15, 1].tolist() == list(range(49, 34, -1))
    assert events.read("features")[0, [COLUMNS.index("n_j"), COLUMNS.index("HT")]].tolist() == [30, pts.sum()]


# -- the same for every way to read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "events"), [(1, 40), (777, 60), (100_000, 1500)])
def test_events_do_not_depend_on_the_size_of_blocks(lines, write, converted, tmp_path, block, events):
    """A block of one byte is a chunk for every line."""
    out = tmp_path / "events.h5"
    darkmachines.convert(write(*lines[:events]), out, block=block)
    assert same(arrays(out), {name: values[:events] for name, values in arrays(converted[0]).items()})


def test_events_do_not_depend_on_workers(file, converted, tmp_path):
    outcome = darkmachines.convert(file, tmp_path / "events.h5", workers=2, block=200_000)
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0])) and outcome == converted[1]


@pytest.mark.parametrize("block", [70_000, 2**22])
def test_gzip_is_read_as_the_text_in_it(file, converted, tmp_path, block):
    path = tmp_path / "events.csv.gz"
    text = file.read_bytes()
    path.write_bytes(gzip.compress(text[: len(text) // 2]) + gzip.compress(text[len(text) // 2 :]))
    outcome = darkmachines.convert(path, tmp_path / "events.h5", block=block)
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0])) and outcome == converted[1]


def test_line_ends_of_windows_and_blank_lines_change_nothing(lines, converted, tmp_path):
    (tmp_path / "events.csv").write_bytes(("\r\n\r\n  \n".join(lines) + "\r\n\n").encode())
    outcome = darkmachines.convert(tmp_path / "events.csv", tmp_path / "events.h5", block=100_000)
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0])) and outcome == converted[1]


def test_several_files_follow_each_other(lines, converted, write, tmp_path):
    paths = [write(*lines[:400], name="a.csv"), write(*lines[400:401], name="b.csv"), write(*lines[401:], name="c.csv")]
    outcome = darkmachines.convert(paths, tmp_path / "events.h5")
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0])) and outcome == converted[1]
    assert Events.from_file(tmp_path / "events.h5").about.source == "converted from a.csv, b.csv, c.csv"


SLOWLY = """
import sys, time
from pipelines.datasets import darkmachines
darkmachines.convert(sys.argv[1], sys.argv[2], block=70_000, progress=lambda done, total: time.sleep(0.1))
"""


def test_killed_conversion_goes_on_where_it_stopped(file, converted, tmp_path, monkeypatch):
    out, parts = tmp_path / "events.h5", tmp_path / "events.h5.parts"
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(file), str(out)])
    deadline = time.monotonic() + 60
    while len(list(parts.glob("0*.h5"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not out.exists()
    finished = len(list(parts.glob("0*.h5")))
    assert finished >= 3

    starts, chunk = [], darkmachines._chunk
    monkeypatch.setattr(
        darkmachines, "_chunk", lambda piece, settings: (starts.append(piece.start), chunk(piece, settings))[1]
    )
    outcome = darkmachines.convert(file, out, block=70_000)
    assert same(arrays(out), arrays(converted[0])) and outcome == converted[1] and not parts.exists()
    everything = len(list(darkmachines.pieces(file, 70_000)))
    assert len(starts) == everything - finished > 0 and 0 not in starts


# -- lines that are no events ------------------------------------------------------------------------------------

BROKEN = {
    "only four;fields;1;2": "4 fields",
    "1;ttbar;one;1;0": "event weight is 'one'",
    "1;ttbar;1;nan;0": "MET is 'nan', expected a finite number",
    "1;ttbar;1;inf;0": "MET is 'inf'",
    "1;ttbar;1;1e999;0": "MET inf GeV",
    "1;ttbar;1;-5;0": "MET -0.005 GeV, expected 0",
    "1;ttbar;1;1;7": "METphi 7",
    "1;ttbar;1;1;": "METphi is ''",
    "1;;1;1;0": "process ID ''",
    "1;tt,bar;1;1;0": "process ID 'tt,bar'",
    "1,5;ttbar;1;1;0": "event ID '1,5'",
    "1;ttbar;1;1;0;tau,30000,20000,0,0": "object 1 is 'tau'",
    "1;ttbar;1;1;0;j,30000,20000,0,0;;b,30000,20000,0,0": "object 2 is ''",
    "1;ttbar;1;1;0;j,30000,20000,0": "object 1 (j) has 3 numbers",
    "1;ttbar;1;1;0;j,30000,20000,0,0,0": "object 1 (j) has 5 numbers",
    "1;ttbar;1;1;0;j,30000,,0,0": "pt of object 1 is ''",
    "1;ttbar;1;1;0;j,30000,20000,0,1_0": "phi of object 1 is '1_0'",
    "1;ttbar;1;1;0;j,30000,20000,NaN,0": "eta of object 1 is 'NaN'",
    "1;ttbar;1;1;0;j,30000,20000,11,0": "eta 11",
    "1;ttbar;1;1;0;j,30000,-20000,0,0": "pt -20 GeV",
    "1;ttbar;1;1;0;j,2e7,20000,0,0": "E 20000 GeV",
    "1;ttbar;1;1;0;j,3": "object 1 (j) has 1 numbers",
    "1;tt\x01bar;1;1;0": "process ID",
    f"1;{'x' * 200_000};1;1;0": "process ID 'xxx",
    "1;tt\xe9;1;1;0": "process ID",
    "1;ttbar;1;1;0;j,3\x000000,20000,0,0": "E of object 1",
}


@pytest.mark.parametrize(("line", "reason"), BROKEN.items(), ids=range(len(BROKEN)))
def test_broken_line_is_named_with_its_number_and_what_is_wrong(lines, tmp_path, line, reason):
    path = tmp_path / "events.csv"
    path.write_bytes("\n".join([*lines[:7], line, *lines[7:10]]).encode("latin-1"))
    with pytest.raises(InputError, match=r"^\S+events\.csv: line 8: ") as error:
        darkmachines.convert(path, tmp_path / "events.h5", block=500)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv"]


def test_broken_lines_are_skipped_and_counted_if_asked_for(lines, converted, tmp_path):
    path = tmp_path / "events.csv"
    rng = np.random.default_rng(2)
    rows = list(lines)
    for line in list(BROKEN) * 3:
        rows.insert(rng.integers(len(rows)), line)
    path.write_bytes("\n".join(rows).encode("latin-1"))
    outcome = darkmachines.convert(path, tmp_path / "events.h5", on_error="skip", block=300_000)
    assert outcome.counts["broken lines"] == 3 * len(BROKEN)
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0]))


def test_compiled_reader_and_its_definition_agree_on_damaged_lines(lines):
    """Every line with some bytes changed, left out or added: accepted by both or by none, with the same numbers."""
    rng = np.random.default_rng(11)
    damaged = []
    for line in lines:
        text = bytearray(line.encode())
        place = rng.integers(len(text))
        text[place : place + rng.integers(3)] = rng.choice([b"", b";", b",", b".", b"-", b" ", b"e", b"0", b"g", b"\r"])
        damaged.append(bytes(text))
    block = read_block(b"\n".join(damaged))
    broken, event, first = [], 0, 0
    for number, line in enumerate(damaged):
        try:
            process, head, objects = sound_line(line.decode(), "MeV")
        except ValueError:
            broken.append(number)
            continue
        last = first + block.counts[event]
        assert (block.process[event].decode(), last - first) == (process, len(objects))
        assert [block.weight[event], block.met[event], block.met_phi[event]] == head
        assert block.kinds[first:last].tolist() == [code for code, _ in objects]
        assert block.momenta[first:last].tolist() == [momentum for _, momentum in objects]
        event, first = event + 1, last
    assert block.broken.tolist() == broken and 200 < len(broken) < 1300
    assert event == len(block.met) and first == len(block.kinds)


def test_line_number_is_right_in_the_last_block_of_gzip_too(lines, tmp_path):
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress("\n".join([*lines[:1200], "", "broken", lines[0]]).encode()))
    with pytest.raises(InputError, match=r"events\.csv\.gz: line 1202: 1 fields"):
        darkmachines.convert(path, tmp_path / "events.h5", block=40_000)


@pytest.mark.slow
def test_broken_line_is_found_by_workers_too(lines, write, tmp_path):
    path = write(*lines[:1200], "broken", *lines[1200:])
    with pytest.raises(InputError, match=r"events\.csv: line 1201: 1 fields"):
        darkmachines.convert(path, tmp_path / "events.h5", block=200_000, workers=2)


# -- files that are something else ---------------------------------------------------------------------------------


def in_gev(lines):
    for line in lines:
        process, (weight, met, phi), objects = read_line(line)
        rest = ";".join(f"{NAMES[k - 1]},{e / 1000!r},{pt / 1000!r},{eta!r},{p!r}" for k, (e, pt, eta, p) in objects)
        yield f"1;{process};{weight!r};{met / 1000!r};{phi!r};{rest}"


def test_file_in_gev_is_refused_and_read_if_one_says_so(lines, converted, write, tmp_path):
    path = write(*in_gev(lines))
    with pytest.raises(InputError, match="is the file in GeV rather than MeV"):
        darkmachines.convert(path, tmp_path / "events.h5")
    darkmachines.convert(path, tmp_path / "events.h5", unit="GeV")
    assert same(arrays(tmp_path / "events.h5"), arrays(converted[0]))


def test_file_in_mev_is_refused_where_gev_was_said(file, tmp_path):
    with pytest.raises(InputError, match="is the file in MeV rather than GeV"):
        darkmachines.convert(file, tmp_path / "events.h5", unit="GeV")


@pytest.mark.parametrize(
    ("pt", "mistaken"), [(15.001, "GeV"), (6499.0, "GeV"), (15_001.0, "MeV"), (6_499_000.0, "MeV")]
)
def test_unit_is_told_by_any_single_object_the_challenge_can_hold(pt, mistaken):
    """From its threshold of 15 GeV to half of 13 TeV."""
    block = read_block(f"1;ttbar;1;0;0;j,{pt},{pt},0,0".encode(), "MeV" if mistaken == "GeV" else "GeV")
    assert len(block.broken) == 1 and f"in {mistaken} rather" in block.reason
    assert not len(read_block(f"1;ttbar;1;0;0;j,{pt},{pt},0,0".encode(), mistaken).broken)


def test_lines_in_gev_among_others_are_found(lines, write, tmp_path):
    path = write(*lines[:200], next(in_gev([PAPER])), *lines[200:300])
    with pytest.raises(InputError, match=r"line 201: E 0\.331927 GeV.*is the file in GeV"):
        darkmachines.convert(path, tmp_path / "events.h5")


def tar(text):
    disk = io.BytesIO()
    with tarfile.open(fileobj=disk, mode="w") as archive:
        member = tarfile.TarInfo("chan1/background_chan1_7.79.csv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return disk.getvalue()


OTHERS = {
    "nothing": (b"", "is empty"),
    "blank lines": (b"\n \n", "is empty"),
    "gzip of nothing": (gzip.compress(b""), "is empty"),
    "prose": (b"This is not a table.\nNot at all.\n", "line 'This is not a table.': 1 fields"),
    "comma table": (b"a,b,c\n1,2,3\n", "1 fields"),
    "semicolon table": (b"id;name;x;y;z\n1;a;2;3;b\n", "event weight is 'x'"),
    "binary": (bytes(range(256)) * 300, "expected Dark Machines events"),
    "no lines": (b"x" * 3_000_000, "1 fields"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(2000), "fields"),
    "tar": (tar(PAPER.encode()), "is a tar archive; unpack it"),
    "tar.gz": (gzip.compress(tar(PAPER.encode())), "is a tar archive; unpack it"),
    "zip": (b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it"),
    "half a gzip header": (b"\x1f\x8b", "ends too early"),
    "gzip by name of its magic only": (b"\x1f\x8b" + b"junk" * 50, "is damaged"),
}


@pytest.mark.parametrize(("content", "reason"), OTHERS.values(), ids=OTHERS)
def test_something_else_is_refused_in_one_line_and_leaves_nothing(tmp_path, content, reason):
    path = tmp_path / "events.csv"
    path.write_bytes(content)
    assert not darkmachines.recognises(path)
    for call in (
        darkmachines.describe,
        lambda path: darkmachines.convert(path, tmp_path / "events.h5", on_error="skip"),
    ):
        with pytest.raises(InputError, match=r"events\.csv: ") as error:
            call(path)
        assert reason in str(error.value) and len(str(error.value).splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv"]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_truncated_gzip_is_refused_whatever_is_done_with_broken_lines(file, tmp_path, on_error):
    path = tmp_path / "events.csv.gz"
    content = gzip.compress(file.read_bytes())
    for kept in (len(content) // 2, len(content) - 3):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"events\.csv\.gz: ends too early.*download"):
            darkmachines.convert(path, tmp_path / "events.h5", on_error=on_error, block=200_000)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv.gz"]


def test_damaged_gzip_is_refused(file, tmp_path):
    path = tmp_path / "events.csv.gz"
    content = bytearray(gzip.compress(file.read_bytes()))
    content[len(content) * 3 // 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"events\.csv\.gz: (is damaged|ends too early|line)"):
        darkmachines.convert(path, tmp_path / "events.h5", block=200_000)
    assert not (tmp_path / "events.h5").exists()


def test_endless_line_in_the_middle_is_refused(lines, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("\n".join([*lines[:300], "j" * 3_000_000]))
    with pytest.raises(InputError, match="a line of more than 1048576 bytes"):
        darkmachines.convert(path, tmp_path / "events.h5", block=10_000, on_error="skip")


def test_missing_file_and_folder_are_refused(tmp_path):
    for path, reason in ((tmp_path / "none.csv", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=reason):
            darkmachines.convert(path, tmp_path / "events.h5")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channel": "4"}, "channel '4', expected one of 1, 2a, 2b, 3"),
        ({"on_error": "ignore"}, "on_error is 'ignore', expected stop or skip"),
        ({"unit": "TeV"}, "unit is 'TeV', expected MeV or GeV"),
        ({"block": 0}, "block is 0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_option_out_of_range_is_refused(file, tmp_path, options, reason):
    with pytest.raises(InputError, match=reason):
        darkmachines.convert(file, tmp_path / "events.h5", **({"block": 200_000} | options))


def test_no_file_and_the_same_file_twice_are_refused(file, tmp_path):
    with pytest.raises(InputError, match="no files"):
        darkmachines.convert([], tmp_path / "events.h5")
    with pytest.raises(InputError, match="more than once"):
        darkmachines.convert([file, file.parent / "." / file.name], tmp_path / "events.h5")


def test_files_are_recognised_and_described(file, tmp_path):
    packed = tmp_path / "events.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert darkmachines.recognises(file) and darkmachines.recognises(packed)
    assert recognise(file) == recognise(packed) == "darkmachines"
    about = darkmachines.describe(file)
    assert abs(int(about["events"].removeprefix("about ")) - 1500) < 200
    assert set(about["processes"].split(", ")) == {*PROCESSES, "..."}
    assert darkmachines.describe(packed)["events"] == "not known before it is read"


# -- channels ------------------------------------------------------------------------------------------------------


def event(jets=(), bjets=(), leptons=(), photons=()):
    """Objects (39, 5) with these pts, energies equal to them; leptons are dealt out to the four types."""
    rows = {"j": jets, "b": bjets, "g": photons} | {n: leptons[i::4] for i, n in enumerate(["m+", "m-", "e+", "e-"])}
    return plain_objects({name: [(pt, pt, 0.0, 0.0) for pt in rows.get(name, ())] for name in NAMES})


FOUR = (201.0, 200.0, 150.0, 51.0)  # HT 602
CASES = [  # channel, objects, MET, HT, whether it is in it
    ("1", event(FOUR), 200.0, 602.0, True),
    ("1", event(FOUR[:2], FOUR[2:]), 200.0, 602.0, True),
    ("1", event(FOUR), 199.9, 602.0, False),
    ("1", event(FOUR), 200.0, 599.9, False),
    ("1", event(FOUR), 200.0, 1000.0, True),
    ("1", event(FOUR), 200.0, 1001.0, False),
    ("1", event((201.0, 200.0, 151.0, 50.0)), 200.0, 602.0, False),
    ("1", event((200.0, 200.0, 151.0, 51.0)), 200.0, 602.0, False),
    ("1", event(FOUR[:3], photons=(300.0,)), 200.0, 602.0, False),
    ("1", event(), 300.0, 0.0, False),
    ("2a", event(leptons=(16.0, 16.0, 16.0)), 50.0, 0.0, True),
    ("2a", event(leptons=(16.0, 16.0, 15.0)), 50.0, 0.0, False),
    ("2a", event(leptons=(16.0, 16.0), photons=(99.0,)), 50.0, 0.0, False),
    ("2a", event(leptons=(16.0, 16.0, 16.0)), 49.9, 0.0, False),
    ("2b", event(leptons=(16.0, 16.0)), 50.0, 50.0, True),
    ("2b", event(leptons=(16.0, 15.0)), 50.0, 50.0, False),
    ("2b", event(leptons=(16.0, 16.0)), 50.0, 49.9, False),
    ("2b", event(leptons=(16.0, 16.0)), 49.9, 50.0, False),
    ("3", event(), 100.1, 600.0, True),
    ("3", event(), 100.0, 600.0, False),
    ("3", event(), 100.1, 599.9, False),
]


@pytest.mark.parametrize(("channel", "objects", "met", "ht", "inside"), CASES)
def test_channel_has_the_cuts_of_the_paper(channel, objects, met, ht, inside):
    others = np.zeros((2, 39, 5))
    found = select_channel(
        channel, np.stack([others[0], objects, others[1]]), np.array([0, met, 0]), np.array([0, ht, 0])
    )
    assert found.tolist() == [False, inside, False]


@pytest.mark.parametrize("channel", ["1", "2a", "2b", "3"])
def test_converted_channel_has_the_events_that_a_plain_loop_selects(lines, file, converted, tmp_path, channel):
    keep = []
    for _, _, met, _, ht, objects in map(plain_event, lines):
        jets = [p[1] for p in objects["j"] + objects["b"]]
        leptons = sum(p[1] > 15 for name in ("m+", "m-", "e+", "e-") for p in objects[name])
        hard = sum(pt > 50 for pt in jets) >= 4 and max(jets) > 200
        keep.append(
            {
                "1": ht >= 600 and met >= 200 and met / max(ht, 1) >= 0.2 and hard,
                "2a": met >= 50 and leptons >= 3,
                "2b": met >= 50 and ht >= 50 and leptons >= 2,
                "3": ht >= 600 and met > 100,
            }[channel]
        )
    out = tmp_path / "events.h5"
    outcome = darkmachines.convert(file, out, channel=channel, truncated=channel == "3", block=200_000)
    whole = arrays(converted[0])
    del whole["objects"]
    assert same(
        {k: v for k, v in arrays(out).items() if k != "objects"}, {k: v[np.array(keep)] for k, v in whole.items()}
    )
    assert outcome.events == sum(keep) > 20
    assert outcome.counts[f"events outside channel {channel}"] == 1500 - sum(keep)
    assert sum(n for what, n in outcome.counts.items() if what.startswith("process ")) == sum(keep)


def test_channel_of_truncated_or_other_objects_is_refused():
    with pytest.raises(InputError, match="cannot be told from truncated"):
        select_channel("1", np.zeros((3, 22, 5)), np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match="channel '2'"):
        select_channel("2", np.zeros((3, 39, 5)), np.zeros(3), np.zeros(3))


def test_channel_without_events_says_what_was_seen(write, tmp_path):
    with pytest.raises(InputError, match=r"no events to write.*1 events outside channel 2a"):
        darkmachines.convert(write(PAPER), tmp_path / "events.h5", channel="2a")


# -- truth --------------------------------------------------------------------------------------------------------


def test_published_processes_have_the_same_numbers_in_every_file(lines, converted, write, tmp_path):
    truth = Events.from_file(converted[0])
    names = [line.split(";")[1].strip() for line in lines]
    assert [truth.about.process_names[k] for k in arrays(converted[0])["process"]] == names
    assert [truth.about.label_names[k] for k in truth.label] == [
        "background" if name in ("ttbar", "njets", "4top") else name for name in names
    ]
    assert converted[1].counts["process ttbar"] == names.count("ttbar")
    darkmachines.convert(write(PAPER.replace("ttbar", "stlp_st1000")), tmp_path / "events.h5")
    one = Events.from_file(tmp_path / "events.h5")
    assert truth.about.label_names[int(one.label[0])] == one.about.label_names[int(one.label[0])] == "stlp_st1000"
    assert set(one.about.process_names.items()) < set(truth.about.process_names.items())


def test_there_are_the_processes_of_the_papers_tables():
    assert len(set(darkmachines.BACKGROUNDS)) == 26 and len(set(darkmachines.SIGNALS)) == 20
    assert not set(darkmachines.BACKGROUNDS) & set(darkmachines.SIGNALS)


def test_unknown_process_is_refused_until_one_says_what_it_is(write, tmp_path):
    path = write(
        PAPER, PAPER.replace("ttbar", "Zp_900"), PAPER.replace("ttbar", "Zp_500"), PAPER.replace("ttbar", "qcd")
    )
    with pytest.raises(InputError, match=r"events\.csv: process 'Zp_500' is not one of.*pattern"):
        darkmachines.convert(path, tmp_path / "events.h5", background="qcd", on_error="skip")
    darkmachines.convert(path, tmp_path / "events.h5", signal="Zp*", background=["qcd"])
    events = Events.from_file(tmp_path / "events.h5")
    assert [events.about.label_names[k] for k in events.label] == ["background", "Zp_900", "Zp_500", "background"]
    assert events.label.tolist() == [0, 22, 21, 0]
    processes = arrays(tmp_path / "events.h5")["process"]
    assert [events.about.process_names[k] for k in processes] == ["ttbar", "Zp_900", "Zp_500", "qcd"]


def test_patterns_go_before_the_published_lists_and_must_not_contradict(write, tmp_path):
    path = write(PAPER, PAPER.replace("ttbar", "4top"), PAPER.replace("ttbar", "stlp_st1000"))
    darkmachines.convert(path, tmp_path / "events.h5", signal="4*", background="stlp*")
    assert Events.from_file(tmp_path / "events.h5").label.tolist() == [0, 21, 0]
    with pytest.raises(InputError, match="'4top' matches a pattern for signals and one for backgrounds"):
        darkmachines.convert(path, tmp_path / "other.h5", signal="4*", background="*top")


def test_more_signals_than_a_label_holds_are_refused(write, tmp_path):
    path = write(*(PAPER.replace("ttbar", f"signal_{i}") for i in range(108)))
    with pytest.raises(InputError, match="108 signal processes"):
        darkmachines.convert(path, tmp_path / "events.h5", signal="signal_*")


def test_blind_conversion_has_no_truth_and_asks_for_none(write, tmp_path):
    outcome = darkmachines.convert(write(PAPER.replace("ttbar", "hidden")), tmp_path / "events.h5", blind=True)
    events = Events.from_file(tmp_path / "events.h5")
    assert not events.has_labels and not {"label", "process"} & set(arrays(tmp_path / "events.h5"))
    assert not events.about.label_names and not events.about.process_names
    assert not any("hidden" in what for what in outcome.counts)


def test_output_says_what_it_is_and_whom_to_credit(write, tmp_path):
    darkmachines.convert(write(PAPER), tmp_path / "events.h5", license="CC BY 4.0", citation="arXiv 2105.14027")
    about = Events.from_file(tmp_path / "events.h5").about
    assert (about.dataset, about.mass_column, about.source) == ("darkmachines", "meff", "converted from events.csv")
    assert (about.license, about.citation) == ("CC BY 4.0", "arXiv 2105.14027")
    assert len(about.units) == len(about.columns) == len(COLUMNS) == 52 and about.object_units[:2] == ("GeV", "GeV")


def test_module_is_light_to_import(fresh_python):
    code = "import sys, pipelines.datasets.darkmachines; print([m for m in ('numba', 'pandas', 'distributed') if m in sys.modules])"
    assert fresh_python(code).strip() == "[]"


@pytest.mark.parametrize(
    "before",
    [["Processing to_csv.cc(1)...", "mine/run_01/events.root"], [PAPER.replace("331927", "inf")], ["a;b;c;d;e"]],
    ids=["what a program printed", "a broken event", "names of columns"],
)
def test_a_file_is_known_by_its_events_also_after_other_lines(before, write, tmp_path):
    path = write(*before, PAPER, PAPER)
    assert recognise(path) == "darkmachines"
    with pytest.raises(InputError, match=r"events.csv: line 1: "):
        darkmachines.convert(path, tmp_path / "all.h5")
    outcome = darkmachines.convert(path, tmp_path / "some.h5", on_error="skip")
    assert outcome.events == 2 and outcome.counts["broken lines"] == len(before)


def test_a_table_with_semicolons_is_not_taken_for_events(write):
    assert recognise(write("run;lumi;mjj;tau21;tau32", "1;5;3100;0.4;0.2", "1;6;2950;0.7;0.3")) == "table"
