"""Keys and certificates of Dask clusters: only their owner gives them work, and nobody else reads what they send.

A Dask scheduler runs any Python code that a client sends to it. So every cluster that this package starts has a key of
its own, made for the run, without which no connection is accepted. What is promised is in docs/security.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import InputError, Unfinished

if TYPE_CHECKING:
    from distributed.security import Security

# No pages of information over HTTP, which has no authentication; no dashboard either.
NO_PAGES: dict[str, object] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
FOLDER = ".zoo-keys-"  # and random letters


@dataclasses.dataclass(frozen=True)
class RunningScheduler:
    """A Dask scheduler that is already there, and the certificates that it asks for.

    Args:
        address: such as tcp://node7:8786 or tls://node7:8786.
        ca_file: certificate of the authority that signed the scheduler's certificate, in PEM format.
        cert, key: our own certificate and its private key, in PEM format.

    What is not given is taken from Dask's own configuration (`distributed.comm.tls`).

    Raises:
        InputError: a file cannot be read; certificates for an address that is not tls://.

    >>> RunningScheduler("tcp://node7:8786").address
    'tcp://node7:8786'
    """

    address: str
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        given = {"--tls-ca-file": self.ca_file, "--tls-cert": self.cert, "--tls-key": self.key}
        for option, path in given.items():
            if path is None:
                continue
            if not self.encrypted:
                raise InputError(f"{option} {path}: is for a scheduler tls://HOST:PORT, this is {self.address}")
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise InputError(f"{option} {path}: {error.strerror}; expected a file in PEM format") from None

    @property
    def encrypted(self) -> bool:
        """Return whether the scheduler is spoken to by TLS."""
        return self.address.startswith("tls://")

    def security(self) -> Security:
        """Return what Dask's client needs; raises `InputError` if a certificate is missing or is none."""
        from distributed.security import Security

        kinds = {"tls_ca_file": self.ca_file, "tls_client_cert": self.cert, "tls_client_key": self.key}
        kept = {name: path for name, path in kinds.items() if path is not None}
        security = Security(**kept, **({"require_encryption": True} if self.encrypted else {}))
        if self.encrypted:
            self._check(security)
        return security

    def _check(self, security: Security) -> None:
        if security.tls_ca_file is None or security.tls_client_cert is None:
            raise InputError(
                f"scheduler {self.address}: no certificates; give --tls-ca-file, --tls-cert and --tls-key, or set "
                "distributed.comm.tls in Dask's configuration"
            )
        try:
            security.get_connection_args("client")
        except (OSError, ValueError) as error:  # of which ssl.SSLError is one
            raise InputError(
                f"scheduler {self.address}: the certificates cannot be used ({' '.join(str(error).split())}); "
                "expected files in PEM format that belong together"
            ) from None


def new_security() -> Security:
    """Return a key and a certificate for one cluster, in memory only; nothing can connect without them.

    >>> new_security().require_encryption
    True
    """
    from distributed.security import Security

    return Security.temporary()


def security_in(folder: Path) -> Security:
    """Return a key and a certificate for one cluster as files of mode 0600, which jobs on other machines read."""
    from distributed.security import Security

    made = new_security()
    names = {"tls_ca_file": "ca.pem", "tls_worker_cert": "cert.pem", "tls_worker_key": "key.pem"}
    kept: dict[str, str] = {}
    for field, name in names.items():
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(file, "w") as text:
            text.write(getattr(made, field))
        kept[field] = str(folder / name)
    for role in ("client", "scheduler"):  # one key for all: who has one may do anything anyway
        kept |= {f"tls_{role}_{kind}": kept[f"tls_worker_{kind}"] for kind in ("cert", "key")}
    return Security(require_encryption=True, **kept)


@contextlib.contextmanager
def key_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new folder of mode 0700 for the key files of a batch farm, which goes with the farm.

    Folders that killed farms of this user left in `parent` are removed.

    Raises:
        Unfinished: nothing can be written in `parent`.
    """
    parent = Path(parent).resolve()
    remove_left_over(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=parent))
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unfinished(
            f"{parent}: no folder for the keys of the jobs can be made ({error.strerror}); give another "
            "`shared` folder that the jobs can read"
        ) from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then nobody removes what is left over
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_over(parent: Path) -> None:
    """Remove the key folders in `parent` whose process is no more: kernel locks end with their process."""
    for folder in parent.glob(f"{FOLDER}????????"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # at work
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def connect(scheduler: str | RunningScheduler) -> dict[str, Any]:
    """Return the address and security of a scheduler, as arguments of `distributed.Client`."""
    running = scheduler if isinstance(scheduler, RunningScheduler) else RunningScheduler(scheduler)
    return {"address": running.address, "security": running.security()}
