"""The Hugging Face hub, for one small file: a model's config.json. Weights are never fetched."""

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from profiler.errors import ModelError, UnavailableError
from profiler.sources.named import package

CONFIG = "config.json"
# How long the hub may take, in seconds. A name lookup that goes unanswered would take much longer by itself.
PATIENCE = 3.5
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether a name is written as those of the hub are: organisation/model."""
    return bool(_NAME.fullmatch(name))


def fetch_config(name: str, target: str) -> Path:
    """The config.json of a model on the hub; the copy in the local cache where there is one.

    Args:
        name: organisation/model.
        target: what the user named, for messages.

    Raises:
        ModelError: the hub has no such model, or it has no config.json.
        UnavailableError: the hub cannot be reached, or wants to know who asks.
    """
    hub = package("huggingface_hub", target)
    errors = package("huggingface_hub.errors", target)
    with suppress(Exception):  # not in the cache, or the cache is damaged: it is fetched anew
        return Path(hub.hf_hub_download(name, CONFIG, local_files_only=True))
    offline = (
        f"{target}: the hub cannot be reached; fetch {CONFIG} of {name} where it can, and name its folder, hf:FOLDER"
    )
    try:
        with _without_its_log():
            return Path(_within(PATIENCE, lambda: _download(hub, name)))
    except errors.GatedRepoError as error:
        raise UnavailableError(
            f"{target}: the hub gives it only to those who have asked for it; hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{target}: the hub has no such model, or it is private") from error
    except errors.LocalEntryNotFoundError as error:  # how the library says that it could not ask
        raise UnavailableError(offline) from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{target}: this repository of the hub has no {CONFIG}") from error
    except socket.gaierror as error:
        raise UnavailableError(f"{offline} (no address is known for it)") from error
    except TimeoutError as error:
        raise UnavailableError(f"{offline} (no answer in {PATIENCE:g} seconds)") from error
    except Exception as error:
        raise UnavailableError(f"{offline} ({type(error).__name__})") from error


def _download(hub: Any, name: str) -> str:  # noqa: ANN401  # a package
    if not getproxies():  # a proxy may know the name where this machine does not
        # The library would try five times, for half a minute, where there is no network at all.
        socket.getaddrinfo(urlsplit(hub.constants.ENDPOINT).hostname, None)
    found: str = hub.hf_hub_download(name, CONFIG, etag_timeout=PATIENCE)
    return found


@contextmanager
def _without_its_log() -> Iterator[None]:
    """The library's lines about trying again are not shown: the error says what is wrong."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _within(seconds: float, work: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the work returns
    """The result of some work, if it takes no longer than that; a thread of its own is left behind if it does.

    Raises:
        TimeoutError: it takes longer.
        Exception: whatever the work raised.
    """
    done: dict[str, Any] = {}

    def run() -> None:
        try:
            done["result"] = work()
        except BaseException as error:  # noqa: BLE001  # handed over to the caller
            done["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if "error" in done:
        raise done["error"]
    return done["result"]


@contextmanager
def offline() -> Iterator[None]:
    """Meanwhile nothing is fetched from the hub: a configuration may name a backbone or a kernel there."""
    constants = package("huggingface_hub.constants", "hf")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
