"""Downloads against a server that drops connections, cuts files off, changes them, or is not there."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

from pipelines.datasets import catalog, download, transfer
from pipelines.datasets.catalog import PUBLISHED
from pipelines.errors import InputError

NAME = "lhco_bb1"
FILE = PUBLISHED[NAME].file


@pytest.fixture(autouse=True)
def straight_to_the_server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    """A whole HDF5 file of 1 MB that does not compress."""
    return hdf5(tmp_path_factory.mktemp("content") / "file.h5", seed=1)


def hdf5(path, seed):
    with h5py.File(path, "w") as file:
        file["df/block0_values"] = np.random.default_rng(seed).random((125, 1000))
    return path.read_bytes()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every address, as badly as it is told to, and remembers what it sent."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.date = content, '"one"', None
        self.ranges = True  # answers range requests
        self.if_range = True  # looks whether the file is still the same
        self.right_part = True  # sends the part that was asked for
        self.length = True  # tells the length
        self.type = "application/octet-stream"
        self.drops = []  # bytes after which the next answers break off
        self.statuses = []  # of the next answers
        self.pause = 0.0  # seconds between blocks
        self.sent = 0
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}/{FILE}"

    def handle_error(self, request, client_address):
        pass  # clients that are killed leave


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if server.statuses and (status := server.statuses.pop(0)) != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        whole = server.content
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
        validator = server.etag or server.date
        if start and server.if_range and self.headers.get("If-Range") not in (None, validator):
            start = 0
        if start >= len(whole):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(whole)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start and not server.right_part:
            start = 0
            self.send_header("Content-Range", f"bytes 0-{len(whole) - 1}/{len(whole)}")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.date:
            self.send_header("Last-Modified", server.date)
        if server.length:
            self.send_header("Content-Length", str(len(whole) - start))
        self.send_header("Content-Type", server.type)
        self.end_headers()
        self.send(whole[start:], server.drops.pop(0) if server.drops else len(whole))

    def send(self, body, limit):
        for first in range(0, min(limit, len(body)), 8192):
            block = body[first : min(first + 8192, limit)]
            self.wfile.write(block)
            self.server.sent += len(block)
            time.sleep(self.server.pause)


@pytest.fixture
def server(content):
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, folder, **options):
    return download.get(NAME, folder, **{"url": server.url, "wait": 0.001} | options)


def says(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def records(folder):
    return json.loads((folder / "checksums.json").read_text())


def publish(monkeypatch, name=NAME, **changes):
    monkeypatch.setitem(catalog.PUBLISHED, name, dataclasses.replace(PUBLISHED[name], **changes))


# -- all goes well ------------------------------------------------------------------------------------------


def test_file_arrives_whole_under_its_name_with_its_sum_recorded(server, tmp_path, content):
    steps = []
    path = get(server, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert path == tmp_path / FILE and path.read_bytes() == content
    assert records(tmp_path)[FILE]["sha256"] == hashlib.sha256(content).hexdigest()
    assert steps[0] == (0, len(content)) and steps[-1] == (len(content), len(content)) and steps == sorted(steps)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["checksums.json", FILE]
    assert not (tmp_path / ".partial").exists()


def test_second_get_asks_nobody(server, tmp_path):
    assert get(server, tmp_path) == get(server, tmp_path)
    assert server.requests == [None]


def test_published_sum_is_checked(server, tmp_path, content, monkeypatch):
    publish(monkeypatch, checksum="md5:" + hashlib.md5(content).hexdigest(), size=len(content))
    assert get(server, tmp_path).read_bytes() == content


def test_folder_is_the_given_one_then_the_variable_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEP_ANOMALY_ZOO_DATA", str(tmp_path / "variable"))
    assert download.data_folder(tmp_path) == tmp_path
    assert download.data_folder() == tmp_path / "variable"
    monkeypatch.delenv("HEP_ANOMALY_ZOO_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert download.data_folder().name == "hep-anomaly-zoo"


def test_master_key_arrives(server, tmp_path):
    server.content = b"0.0\n1.0\n2.0\n" * 100
    path = download.get("lhco_bb3_key", tmp_path, url=server.url)
    assert path.name == "events_LHCO2020_BlackBox3.masterkey" and path.read_bytes() == server.content


# -- connections that drop ----------------------------------------------------------------------------------


def test_dropped_connections_resume_where_they_broke_off(server, tmp_path, content):
    server.drops = [300_000, 250_000, 200_000]
    assert get(server, tmp_path, retries=1).read_bytes() == content
    starts = [int(r[6:-1]) for r in server.requests[1:]]
    assert len(starts) == 3 and starts == sorted(starts) and starts[0] > 200_000
    # What is lost at a break is less than a block, so little is sent twice.
    assert len(content) <= server.sent < len(content) + 3 * (transfer.BLOCK + 8192)


def test_a_date_does_where_there_is_no_etag(server, tmp_path, content):
    server.etag, server.date, server.drops = None, "Sat, 21 Nov 2026 10:00:00 GMT", [300_000]
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests[1] is not None


def test_server_that_sends_another_part_than_asked_for_is_asked_for_all(server, tmp_path, content):
    server.right_part, server.drops = False, [300_000]
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests[1] is not None and server.requests[2:] == [None]


def test_part_that_nobody_asked_for_is_refused(server, tmp_path):
    server.statuses = [206]
    with pytest.raises(InputError) as error:
        get(server, tmp_path)
    says(error, "the server sends a part of the file, and was not asked for one")
    assert not (tmp_path / FILE).exists()


def test_short_body_is_seen_also_where_the_http_library_does_not_care(server, tmp_path, content, monkeypatch):
    import urllib3

    careless = property(lambda self: False, lambda self, value: None)  # as urllib3 1.26 was
    monkeypatch.setattr(urllib3.HTTPResponse, "enforce_content_length", careless, raising=False)
    server.drops = [300_000]
    assert get(server, tmp_path).read_bytes() == content
    server.drops = [300_000, 0]
    with pytest.raises(InputError, match=r"the connection ended after .* of 1\.0 MB"):
        get(server, tmp_path, renew=True, retries=0)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_it_starts_over_rather_than_glue(server, tmp_path, content, etag):
    server.etag, server.drops = etag, [300_000]
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests == [None, None]


def test_server_that_ignores_ranges_sends_all_again(server, tmp_path, content):
    server.ranges, server.drops = False, [300_000]
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests[1] is not None and server.sent >= len(content) + 300_000


def test_too_many_drops_keep_what_is_there_for_the_next_call(server, tmp_path, content):
    server.drops = [300_000, 0, 0, 0]
    with pytest.raises(InputError) as error:
        get(server, tmp_path, retries=2)
    says(error, server.url, FILE, "kept", f"zoo data get {NAME} --from FILE")
    assert not (tmp_path / FILE).exists() and "kB of" in download.state(NAME, tmp_path)
    with pytest.raises(InputError, match=r"not downloaded yet .* kB of it are there; run `zoo data get lhco_bb1`"):
        download.verified(NAME, tmp_path)
    before = server.sent
    assert get(server, tmp_path).read_bytes() == content
    assert server.sent - before < len(content) - 200_000


def test_body_that_is_always_too_short_is_refused(server, tmp_path, content):
    server.ranges, server.drops = False, [500_000] * 10
    with pytest.raises(InputError) as error:
        get(server, tmp_path)
    says(error, server.url, "cannot be downloaded")
    assert not (tmp_path / FILE).exists() and not (tmp_path / "checksums.json").exists()


def test_truncated_file_of_unknown_length_is_seen_by_its_content(server, tmp_path):
    server.length, server.content = False, server.content[:500_000]
    with pytest.raises(InputError) as error:
        get(server, tmp_path)
    says(error, "not a whole HDF5 file", FILE, "zenodo.org/records/4536624")
    assert not (tmp_path / FILE).exists() and not (tmp_path / "checksums.json").exists()
    assert not (tmp_path / ".partial").exists()


@pytest.mark.parametrize("name, body", [(NAME, b"<html>Log in</html>"), ("lhco_bb1_key", b"<html>Log in</html>")])
def test_log_in_page_is_not_taken_for_the_file(server, tmp_path, name, body):
    server.content = body
    with pytest.raises(InputError) as error:
        download.get(name, tmp_path, url=server.url)
    says(error, PUBLISHED[name].file, "not ")
    server.type = "text/html; charset=utf-8"
    with pytest.raises(InputError, match="a web page comes instead"):
        download.get(name, tmp_path, url=server.url)
    assert not (tmp_path / "checksums.json").exists()


def test_file_of_another_size_than_published_is_refused_before_it_comes(server, tmp_path, monkeypatch):
    publish(monkeypatch, size=7)
    with pytest.raises(InputError, match=f"offers {len(server.content)} bytes, expected 7"):
        get(server, tmp_path)


# -- files that change --------------------------------------------------------------------------------------


@pytest.mark.parametrize("obeys", [True, False])
def test_file_that_changes_between_two_parts_is_not_glued(server, tmp_path, obeys):
    server.if_range, server.drops = obeys, [300_000, 0]
    with pytest.raises(InputError):
        get(server, tmp_path, retries=0)
    other = hdf5(tmp_path / "other.h5", seed=2)
    server.content, server.etag, server.drops = other, '"two"', []
    assert get(server, tmp_path).read_bytes() == other
    assert (server.requests[-1] is None) == (not obeys)
    assert server.requests[2] is not None  # it did ask for the rest


def test_shorter_file_in_its_place_starts_over(server, tmp_path):
    server.drops = [300_000, 0]
    with pytest.raises(InputError):
        get(server, tmp_path, retries=0)
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file["x"] = [1.0]
    server.content = (tmp_path / "small.h5").read_bytes()  # by the same ETag: the server lies
    assert get(server, tmp_path).read_bytes() == server.content


def test_glued_file_of_a_lying_server_is_fetched_again_from_the_start(server, tmp_path, monkeypatch):
    other = hdf5(tmp_path / "other.h5", seed=2)
    publish(monkeypatch, checksum="sha256:" + hashlib.sha256(other).hexdigest())
    server.drops = [300_000, 0]
    with pytest.raises(InputError):
        get(server, tmp_path, retries=0)
    server.content = other  # another file by the same ETag
    assert get(server, tmp_path).read_bytes() == other
    assert server.requests[-2:] == [server.requests[-2], None] and server.requests[-2] is not None


def test_altered_file_on_the_server_is_refused_with_both_sums(server, tmp_path, content):
    path = get(server, tmp_path)
    path.unlink()
    server.content = hdf5(tmp_path / "other.h5", seed=2)
    with pytest.raises(InputError) as error:
        get(server, tmp_path)
    sums = [hashlib.sha256(c).hexdigest() for c in (server.content, content)]
    says(error, server.url, f"checksum is {sums[0]}, expected sha256:{sums[1]}", f"zoo data get {NAME} --renew")
    assert not path.exists()
    assert get(server, tmp_path, renew=True).read_bytes() == server.content
    assert records(tmp_path)[FILE]["sha256"] == sums[0]


def test_wrong_published_sum_cannot_be_renewed_away(server, tmp_path, monkeypatch):
    publish(monkeypatch, checksum="md5:" + 32 * "0")
    for renew in (False, True):
        with pytest.raises(InputError) as error:
            get(server, tmp_path, renew=renew)
        says(error, f"is {hashlib.md5(server.content).hexdigest()}, expected md5:{32 * '0'}")
        assert "--renew" not in str(error.value) and not (tmp_path / FILE).exists()


def test_file_altered_on_disk_is_named_with_both_sums(server, tmp_path, content):
    path = get(server, tmp_path)
    altered = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(altered)
    os.utime(path, ns=(0, 0))  # not left to the clock's grain
    for ask in (lambda: download.verified(NAME, tmp_path), lambda: get(server, tmp_path)):
        with pytest.raises(InputError) as error:
            ask()
        sums = [hashlib.sha256(c).hexdigest() for c in (altered, content)]
        says(error, str(path), sums[0], sums[1], f"remove it and run `zoo data get {NAME}`")


def test_untouched_file_is_not_read_again_and_touched_one_once(server, tmp_path, monkeypatch):
    import pooch

    path, calls = get(server, tmp_path), []
    real = pooch.file_hash
    monkeypatch.setattr(pooch, "file_hash", lambda *a, **k: calls.append(a) or real(*a, **k))
    download.verified(NAME, tmp_path)
    assert calls == []
    os.utime(path, ns=(0, 0))
    assert download.verified(NAME, tmp_path) == path and calls
    calls.clear()
    download.verified(NAME, tmp_path)
    assert calls == []


def test_damaged_record_is_named(server, tmp_path):
    get(server, tmp_path)
    for text in ("{", "[]", '{"a": {}}'):
        (tmp_path / "checksums.json").write_text(text)
        with pytest.raises(InputError, match=r"checksums.json: .*; not the checksums of downloads; remove it"):
            download.verified(NAME, tmp_path)


# -- servers that refuse, or are not there ------------------------------------------------------------------


def test_trouble_of_the_server_passes(server, tmp_path, content):
    server.statuses = [500, 503, 429, 200]
    assert get(server, tmp_path).read_bytes() == content


@pytest.mark.parametrize("status, tries", [(404, 1), (403, 1), (410, 1), (500, 3)])
def test_refusal_is_one_clear_line(server, tmp_path, status, tries):
    server.statuses = [status] * 10
    with pytest.raises(InputError) as error:
        get(server, tmp_path, retries=2)
    says(error, server.url, str(status), f"zoo data get {NAME} --from FILE")
    assert len(server.requests) == tries


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_listening_says_so(tmp_path):
    url = f"http://127.0.0.1:{unused_port()}/x"
    with pytest.raises(InputError) as error:
        download.get(NAME, tmp_path, url=url, wait=0.001)
    says(error, url, "connection refused", "proxy", "--from FILE")


def test_unknown_host_says_offline(tmp_path, monkeypatch):
    def no_names(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with pytest.raises(InputError, match=r"https://zenodo\.org/.*offline\?.*zoo data get lhco_bb1 --from FILE"):
        download.get(NAME, tmp_path, wait=0.001)


def test_dead_proxy_is_blamed(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(InputError, match="proxy does not let it through"):
        download.get(NAME, tmp_path, url="http://data.invalid/x", wait=0.001)


def test_silent_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", (1, 0.05))
    server.pause = 0.5
    with pytest.raises(InputError, match="cannot be downloaded"):
        get(server, tmp_path, retries=0)


def test_nonsense_address_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no-address: .*cannot be downloaded"):
        download.get(NAME, tmp_path, url="no-address")


@pytest.mark.parametrize(
    "name, hint", [("lhco_bb4", "'lhco_bb"), ("x", "lhco_rnd_v2"), ("lhco_sim_test", "comes with the package")]
)
def test_unknown_name_helps(tmp_path, name, hint):
    with pytest.raises(InputError, match=f"{name}: .*{hint}"):
        download.get(name, tmp_path)


# -- several processes, and those that are killed -----------------------------------------------------------


def process(server, folder):
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
        "from pipelines.datasets import download as d; print(d.get(*sys.argv[1:3], url=sys.argv[3]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, NAME, folder, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_download_it_once(server, tmp_path, content):
    server.pause = 0.002
    both = [process(server, tmp_path) for _ in range(2)]
    for one in both:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0 and out.strip() == str(tmp_path / FILE) and not err
    assert server.requests == [None] and (tmp_path / FILE).read_bytes() == content


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_download_goes_on_where_it_was(server, tmp_path, content, how):
    server.pause = 0.005
    victim = process(server, tmp_path)
    part = tmp_path / ".partial" / NAME / "data"
    wait_for(lambda: part.exists() and part.stat().st_size > 300_000)
    victim.send_signal(how)
    victim.communicate(timeout=30)
    assert victim.returncode != 0 and not (tmp_path / FILE).exists()
    there = part.stat().st_size
    server.pause, server.sent = 0, 0
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests[-1] == f"bytes={there}-"
    # the thread that served the killed one may still count a block or two
    assert 0 <= server.sent - (len(content) - there) <= 2 * 8192
    assert not part.parent.exists()  # nothing of the killed process is left


def test_killed_while_the_sum_is_taken_has_not_lost_the_file(server, tmp_path, content, monkeypatch):
    import pooch.core

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch.core, "hash_matches", killed)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests == [None]


def test_strays_of_a_killed_process_go(server, tmp_path):
    work = tmp_path / ".partial" / NAME
    work.mkdir(parents=True)
    (work / "tmp_of_pooch").write_text("")
    server.statuses = [404]
    with pytest.raises(InputError):
        get(server, tmp_path)
    assert not work.parent.exists()


def test_waiting_process_reports_how_far_the_other_is(tmp_path):
    work = tmp_path / ".partial" / NAME
    work.mkdir(parents=True)
    (work / "data").write_bytes(b"12345")
    seen = []

    def progress(done, total):
        seen.append((done, total))
        release.set()

    release = threading.Event()
    with contextlib.ExitStack() as holder:
        holder.enter_context(download._only_one(work, None))

        def second():
            with download._only_one(work, progress):
                pass

        thread = threading.Thread(target=second)
        thread.start()
        assert release.wait(10)
        holder.close()
        thread.join(10)
    assert seen[0] == (5, None)


# -- disks --------------------------------------------------------------------------------------------------


def test_full_disk_is_a_clear_error_and_the_part_is_kept(server, tmp_path, content):
    # The largest file a process may write: the system refuses as it does on a full disk, after a part of a block.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_001, hard))
    try:
        with pytest.raises(InputError) as error:
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says(error, os.strerror(errno.EFBIG), "free some space; what has come is kept", f"zoo data get {NAME}")
    assert (tmp_path / ".partial" / NAME / "data").stat().st_size == 400_001
    assert get(server, tmp_path).read_bytes() == content
    assert server.requests[-1] == "bytes=400001-"


def test_disk_that_takes_a_block_in_parts_gets_all_of_it():
    class Slow:
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:10])
            return len(data[:10])

    disk = Slow()
    transfer._write_all(disk, bytes(range(95)))
    assert disk.taken == bytes(range(95))


def test_too_little_space_is_said_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(InputError, match=r"1.0 MB to come, 10 bytes free.*free some space"):
        get(server, tmp_path)
    # what a loaded machine has sent before it hears that nobody listens is less than the file
    assert server.sent < 900_000 and not (tmp_path / ".partial" / NAME / "data").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_named(server, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"closed.*HEP_ANOMALY_ZOO_DATA"):
        get(server, tmp_path / "closed")


def test_folder_that_is_a_file_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.*cannot be written.*HEP_ANOMALY_ZOO_DATA"):
        get(server, tmp_path / "file")


# -- files fetched by other means ---------------------------------------------------------------------------


def test_file_fetched_by_hand_is_taken_in_and_recorded(tmp_path, content):
    source = tmp_path / "from_a_browser.h5"
    source.write_bytes(content)
    path = download.adopt(NAME, source, tmp_path / "data")
    assert path == tmp_path / "data" / FILE and path.read_bytes() == source.read_bytes() == content
    assert download.verified(NAME, tmp_path / "data") == path
    assert download.state(NAME, tmp_path / "data") == "downloaded"
    assert download.adopt(NAME, path, tmp_path / "data") == path  # in its place already


def test_file_fetched_by_hand_must_be_the_published_one(tmp_path, content, monkeypatch):
    publish(monkeypatch, checksum="md5:" + 32 * "0")
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(InputError) as error:
        download.adopt(NAME, tmp_path / "file.h5", tmp_path / "data")
    says(error, "file.h5", hashlib.md5(content).hexdigest(), 32 * "0")
    assert not (tmp_path / "data" / FILE).exists()


def test_file_fetched_by_hand_must_be_whole(tmp_path, content):
    (tmp_path / "file.h5").write_bytes(content[:-5000])
    with pytest.raises(InputError, match="not a whole HDF5 file"):
        download.adopt(NAME, tmp_path / "file.h5", tmp_path / "data")
    with pytest.raises(InputError, match=r"nowhere.h5: no such file"):
        download.adopt(NAME, tmp_path / "nowhere.h5", tmp_path / "data")


def test_file_put_into_the_folder_unchecked_is_not_trusted(server, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    for ask in (lambda: download.verified(NAME, tmp_path), lambda: get(server, tmp_path)):
        with pytest.raises(InputError, match=f"never checked; run `zoo data get {NAME} --from .*{FILE}`"):
            ask()
    assert download.adopt(NAME, tmp_path / FILE, tmp_path) == download.verified(NAME, tmp_path)


def test_file_put_into_the_folder_passes_by_its_published_sum(tmp_path, content, monkeypatch):
    publish(monkeypatch, checksum="md5:" + hashlib.md5(content).hexdigest())
    (tmp_path / FILE).write_bytes(content)
    assert download.verified(NAME, tmp_path) == tmp_path / FILE
    assert records(tmp_path)[FILE]["sha256"] == hashlib.sha256(content).hexdigest()
