"""Stores that fsspec knows: ``memory://``, ``http://``, and with their packages ``s3://``, ``gs://``, ``hdfs://``..."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from twister2.spec.errors import DataAccessError, DataError
from twister2.spec.uris import without_secrets
from twister2_data_file.stores import FoundFile, Store, is_hidden, nothing_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WEB = ("http", "https")
CONNECT_S = 30
"""Seconds to wait for the connection to a web server."""
SILENCE_S = 60
"""Seconds without a byte after which a web server is given up."""

_PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow (and Hadoop's native library)",
    "sftp": "paramiko",
}


class RemoteStore(Store):
    """A file system of fsspec; paths keep their scheme.

    What goes wrong is an :class:`OSError`, whatever the package of the store raises; its text holds no credentials.
    """

    def __init__(self, uri: str) -> None:
        import fsspec

        self._uri = uri
        self._scheme = uri.partition("://")[0].lower()
        self._web = self._scheme in WEB
        try:
            self._fs, _ = fsspec.core.url_to_fs(uri, **(_patience() if self._web else {}))
        except (ImportError, ValueError) as error:
            package = _PACKAGES.get(self._scheme)
            raise DataAccessError(
                f"cannot reach {without_secrets(uri)}",
                why=without_secrets(str(error)),
                remedy=f"pip install {package}, on every worker"
                if package is not None and isinstance(error, ImportError)
                else "use a scheme that fsspec knows, with the package it needs on every worker",
                where=without_secrets(uri),
            ) from None

    def match(self, path: str) -> list[FoundFile]:
        with _told():
            self._fs.invalidate_cache()  # what was listed before is not what is there now
            return self._match_web(path) if self._web else self._match(path)

    def _match(self, path: str) -> list[FoundFile]:
        inner = self._fs._strip_protocol(path)
        try:
            kind = self._fs.info(inner)["type"]
        except FileNotFoundError:
            kind = ""
        if kind == "file":
            return [self._found(self._fs.info(inner))]
        if kind == "directory":
            matches: dict[str, Any] = self._fs.find(inner, detail=True)
            root = len(inner.rstrip("/")) + 1
            shown = {name: info for name, info in matches.items() if not any(map(is_hidden, name[root:].split("/")))}
            if not shown and f"{inner.rstrip('/')}/_SUCCESS" not in matches:
                raise nothing_there(path, "the folder holds no files (hidden ones do not count)")
        elif glob.has_magic(path):
            shown = self._globbed(inner)
            if not shown:
                raise nothing_there(path, "the pattern matches no file")
        else:
            raise nothing_there(path, "there is no such file or folder in that store")
        return [self._found(shown[name]) for name in sorted(shown)]

    def _match_web(self, path: str) -> list[FoundFile]:
        """Web servers have no folders; a pattern is held against the links of the page before it."""
        if "*" in path.partition("?")[0]:
            shown = self._globbed(path)
            if not shown:
                raise nothing_there(path, "the page before the pattern has no link that matches")
            return self._found_of_web([self._info_of_web(name) for name in sorted(shown)])
        return self._found_of_web([self._info_of_web(path)])

    def _globbed(self, inner: str) -> dict[str, Any]:
        return {
            name: info
            for name, info in self._fs.glob(inner, detail=True).items()
            if info.get("type") != "directory" and not is_hidden(name.rsplit("/", 1)[-1])
        }

    def _info_of_web(self, url: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._fs.info(url)
        except FileNotFoundError as error:
            # fsspec says this of everything; what it was is told by the cause
            cause = error.__cause__
            if cause is None or getattr(cause, "status", None) in (404, 410):
                raise nothing_there(url, "the server has no such file") from None
            raise OSError(errno.EIO, _in_words(cause)) from None
        return info

    def _found_of_web(self, infos: list[dict[str, Any]]) -> list[FoundFile]:
        by_server: dict[str, bool] = {}  # whether it gives parts of files; asked once
        found = []
        for info in infos:
            size, server = info.get("size"), urlsplit(info["name"]).netloc
            parts = size is not None and info.get("partial", True)
            if parts and size and size > 1:
                if server not in by_server:
                    by_server[server] = self._gives_parts(info["name"], int(size))
                parts = by_server[server]
            found.append(FoundFile(info["name"], int(size or 0), whole=not parts))
        return found

    def _gives_parts(self, url: str, size: int) -> bool:
        with self._fs.open(url, "rb", size=size, block_size=1, cache_type="none") as file:
            try:
                file.seek(size - 1)
                file.read(1)
            except ValueError:
                return False
        return True

    def _found(self, info: dict[str, Any]) -> FoundFile:
        size = info.get("size")
        return FoundFile(self._named(info["name"]), int(size or 0), whole=size is None)

    def _named(self, inner: str) -> str:
        """A path of this store as URI, with the server that the URI of the request names."""
        asked = str(self._fs._strip_protocol(self._uri))
        before = self._uri.rstrip("/").removesuffix(asked.rstrip("/"))
        if before.endswith("://") or (before != self._uri and inner.startswith("/")):
            return before + inner
        return str(self._fs.unstrip_protocol(inner))

    def open(self, path: str, *, forward: bool = False) -> IO[bytes]:
        if not self._web:
            with _told():
                return cast("IO[bytes]", _Told(self._fs.open(path, "rb")))
        return cast("IO[bytes]", _FromStart(self, path) if forward else _Parts(self, path))

    def stream(self, path: str) -> Any:
        """A file of a web server from its beginning, in one request."""
        with _told(path):
            return self._fs.open(path, "rb", block_size=0, size=1)

    def parts(self, path: str) -> Any:
        """A file of a web server in blocks, each a request."""
        with _told(path):
            return self._fs.open(path, "rb")

    def create(self, path: str) -> IO[bytes]:
        if self._web:
            raise DataAccessError(
                f"cannot write {without_secrets(path)}",
                why="web servers give files; they take none",
                remedy="write to a folder or to a store that takes files",
                where=without_secrets(path),
            )
        with _told():
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)
            return cast("IO[bytes]", _Written(self._fs.open(path, "wb")))

    def sync(self, file: IO[bytes]) -> None:
        """Nothing: stores keep an object when it is closed, and only then."""

    def size(self, path: str) -> int | None:
        if self._web:
            return None
        with _told():
            return int(self._fs.info(path)["size"] or 0) if self._fs.isfile(path) else None

    def names(self, folder: str) -> list[str]:
        if self._web:
            return []
        with _told():
            if not self._fs.isdir(folder):
                return []
            return sorted(str(each).rstrip("/").rsplit("/", 1)[-1] for each in self._fs.ls(folder, detail=False))

    def has_folder(self, path: str) -> bool:
        with _told():
            return not self._web and bool(self._fs.isdir(path))

    def replace(self, source: str, target: str) -> None:
        with _told():
            self._fs.copy(source, target)
            self._fs.rm_file(source)

    def remove(self, path: str) -> None:
        with _told():
            if self._fs.isfile(path):
                self._fs.rm_file(path)

    def remove_folder(self, path: str) -> None:
        with _told():
            if self._fs.isdir(path) and not self._fs.ls(path, detail=False):
                self._fs.rmdir(path)

    def sync_folder(self, path: str) -> None:
        """Nothing: stores have no folders to sync."""


class _Told(io.RawIOBase):
    """A file of a store, whose errors are those of the operating system."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _told():
            return int(self._file.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        with _told():
            return bytes(self._file.read(-1 if size is None else size))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(Exception):
            self._file.close()


class _Written(io.RawIOBase):
    """A file that is written to a store, with such errors."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def write(self, data: Any) -> int:
        with _told():
            self._file.write(data)
        return memoryview(data).nbytes

    def close(self) -> None:
        """Make the object; until then the store has nothing of it."""
        if not self.closed:
            super().close()
            with _told():
                self._file.close()


class _FromStart(_Told):
    """A file of a web server, read from its beginning in one request; seeking back makes another."""

    def __init__(self, store: RemoteStore, path: str) -> None:
        super().__init__(store.stream(path))
        self._again: Callable[[], Any] = lambda: store.stream(path)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the length of the file is not known")
        if offset < self.tell():
            with contextlib.suppress(Exception):
                self._file.close()
            self._file = self._again()
        while self.tell() < offset and self.read(min(1 << 16, offset - self.tell())):
            pass
        return self.tell()


class _Parts(_Told):
    """A file of a web server, read at any place: by parts or, where the server gives none, from a copy of all of it."""

    def __init__(self, store: RemoteStore, path: str) -> None:
        file = store.parts(path)
        self._copied = False
        super().__init__(file)
        self._whole: Callable[[], Any] = lambda: store.stream(path)
        if getattr(file, "size", None) is None:
            self._copy(file)

    def read(self, size: int | None = -1) -> bytes:
        place = self.tell()
        try:
            return super().read(size)
        except _NoPartsError:
            with contextlib.suppress(Exception):
                self._file.close()
            self._copy(self._whole())
        self.seek(place)
        return super().read(size)

    def _copy(self, stream: Any) -> None:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this one
        self._file = copy
        try:
            with _told():
                shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
        finally:
            with contextlib.suppress(Exception):
                stream.close()


class _NoPartsError(OSError):
    """The server gives files from their beginning only."""


@contextlib.contextmanager
def _told(path: str = "") -> Iterator[None]:
    """Errors of stores' packages as those of the operating system, without credentials in their text."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause is not None and getattr(cause, "status", 404) not in (404, 410):
            raise OSError(errno.EIO, _in_words(cause)) from None
        raise FileNotFoundError(errno.ENOENT, "there is no such file in that store", without_secrets(path)) from None
    except OSError as error:
        number = error.errno if isinstance(error.errno, int) else errno.EIO
        raise OSError(number, _in_words(error)) from None
    except ValueError as error:
        if "range requests" in str(error):
            raise _NoPartsError(errno.ESPIPE, _in_words(error)) from None
        raise
    except Exception as error:  # each package has errors of its own
        raise OSError(errno.EIO, _in_words(error)) from None


def _in_words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or "no answer"
    return f"{type(error).__name__}: {without_secrets(str(text))}"


def _patience() -> dict[str, Any]:
    """Limits of waiting for web servers; a file may take as long as bytes come."""
    with contextlib.suppress(ImportError):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        return {"client_kwargs": {"timeout": timeout}}
    return {}
