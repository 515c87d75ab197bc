"""The live traffic of a canary, which an Envoy proxy in front of the servers shares out.

The proxy's routes look at two numbers of its runtime, and its admin API sets them:

    promotion.MODEL.canary   of 100 requests, so many are answered by the canary instead
    promotion.MODEL.mirror   of 100 requests, so many are sent to the canary too, and nobody gets its answer

Both are forgotten when the proxy starts anew: then all is answered by stable again.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import requests

from serving.promotion.errors import PromotionError, ServerUnreachableError
from serving.promotion.history import History
from serving.promotion.plan import CANARY, Operation, Stage
from serving.promotion.rollout import StageFailedError
from serving.promotion.servers import polled

_TIMEOUT_S = 5.0
# An operation that failed here has told the proxy nothing, on its way back neither.
_UNTOUCHED = (Stage.COPY, Stage.PLACE, Stage.LOAD)
_GONE = "if it is gone for good, --no-proxy goes on without it"


@dataclass(frozen=True)
class Share:
    """What a canary gets of the live traffic, in per cent, and the admin address of the proxy that sees to it; without
    a proxy it is what clients are asked to send through the label."""

    percent: int = 0
    mirror: int = 0
    proxy: str | None = None

    @classmethod
    def of(cls, operation: Operation) -> Share:
        return cls(**operation.facts.get("share", {}))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shared(found: History, model: str) -> Share:
    """What the canary of a model gets, by the history; nothing without a canary."""
    for one in reversed(found.records):
        if one["model"] == model and one.get("failed_at") not in _UNTOUCHED:
            if CANARY not in one["after"]:
                break
            if "share" in one:
                share = Share(**one["share"])
                return share if one["outcome"] == "done" else replace(share, percent=0, mirror=0)
    return Share()


def following(earlier: Share, asked: Share, no_proxy: bool) -> Share:
    """What a canary gets from now on: what is asked, by the proxy that sees to it already, if one does. Raises
    PromotionError for another proxy: the first one would go on."""
    if no_proxy:
        return replace(asked, proxy=None)
    if asked.proxy and earlier.proxy and asked.proxy != earlier.proxy:
        raise PromotionError(f"the proxy {earlier.proxy} shares out this model's traffic now: take the canary away "
                             "first (rollback), or say --no-proxy if that one is gone for good")
    return replace(asked, proxy=asked.proxy or earlier.proxy)


def tell(model: str, share: Share) -> None:  # decision 242
    """Sets both numbers at the share's proxy, if it has one, and reads them again. Raises StageFailedError."""
    if share.proxy is None:
        return
    url, wanted = share.proxy, {_canary(model): str(share.percent), _mirror(model): str(share.mirror)}

    def send() -> str:
        try:
            answer = requests.post(_at(url, "runtime_modify"), params=wanted, timeout=_TIMEOUT_S)
            if not answer.ok:
                return f"{answer.status_code}: {answer.text.strip()}"
            return "" if told(url, model) == (share.percent, share.mirror) else "it keeps other numbers"
        except requests.RequestException as error:
            return str(error)
    if last := polled(send, _TIMEOUT_S):
        raise StageFailedError(f"the proxy {url} does not take what the canary of {model} gets ({last}); {_GONE}")


def told(url: str, model: str) -> tuple[int, int]:
    """(canary, mirror) as the proxy has them; 0 where it was told nothing. Raises requests.RequestException."""
    answer = requests.get(_at(url, "runtime"), params={"format": "json"}, timeout=_TIMEOUT_S)
    answer.raise_for_status()
    entries = answer.json()["entries"]
    canary, mirror = (int(entries.get(key, {}).get("final_value") or 0) for key in (_canary(model), _mirror(model)))
    return canary, mirror


def in_force(model: str, share: Share) -> bool:
    """Whether the share's proxy, if it has one, has these numbers: it forgets them when it starts anew."""
    try:
        return share.proxy is None or told(share.proxy, model) == (share.percent, share.mirror)
    except requests.RequestException:
        return False


def require_routes(model: str, share: Share) -> None:
    """Raises ServerUnreachableError if the proxy does not answer, and PromotionError if it has no route that looks at
    the numbers that are to be set: it would take them, and nothing would change."""
    if share.proxy is None:
        return
    try:
        answer = requests.get(_at(share.proxy, "config_dump"), timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ServerUnreachableError(f"the proxy's admin API at {share.proxy} does not answer ({error}); {_GONE}"
                                     ) from None
    for key, percent in ((_canary(model), share.percent), (_mirror(model), share.mirror)):
        if percent and f'"{key}"' not in answer.text:
            raise PromotionError(f"the proxy at {share.proxy} has no route with the runtime key {key}, so that it "
                                 "would send the canary nothing; see docs/promotion.md")


def _canary(model: str) -> str:
    return f"promotion.{model}.canary"


def _mirror(model: str) -> str:
    return f"promotion.{model}.mirror"


def _at(url: str, path: str) -> str:
    return f"{url if '://' in url else f'http://{url}'}".rstrip("/") + f"/{path}"
