"""Where an upstream's routes are and how it wants to be addressed: OpenAI's paths, or Azure's deployments."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import quote, urlsplit

from capture.settings import FallbackSettings, UpstreamSettings
from gateway.headers import Headers
from gateway.plan import NAME_CHARACTERS, Address

# Azure's older surface puts the model into the path of these routes (learn.microsoft.com: Azure OpenAI REST reference).
_DEPLOYED = ("/chat/completions", "/completions", "/embeddings", "/audio/", "/images/")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One upstream, ready for the hot path."""

    name: str
    address: Address
    path: str  # of base_url, without a slash at its end
    kind: Literal["openai", "azure"] = "openai"
    api_version: str | None = None
    auth: Literal["forward", "key"] = "forward"
    models: tuple[str, ...] = ("*",)
    fallbacks: tuple[FallbackSettings, ...] = ()
    asks_usage: bool = False  # streams are asked for their usage

    def target(self, route: str, query: str, model: str) -> str:
        """The path and query to ask for; `route` is what follows `/v1` in ours ("/chat/completions")."""
        if self.deploys:
            route = self._deployment(route, model)
        if self.api_version and "api-version=" not in query:
            query = f"{query}&api-version={self.api_version}".lstrip("&")
        return f"{self.path}{route}?{query}" if query else f"{self.path}{route}"

    @property
    def deploys(self) -> bool:
        """Azure's older surface: the model's name stands in the path."""
        return self.kind == "azure" and not self.path.endswith("/v1")

    def credentials(self, secret: str) -> Headers:
        """The header that carries the upstream's own key."""
        if self.kind == "azure":
            return ((b"api-key", secret.encode("latin-1")),)
        return ((b"authorization", b"Bearer " + secret.encode("latin-1")),)

    def _deployment(self, route: str, model: str) -> str:
        if model and len(model) <= NAME_CHARACTERS and route.startswith(_DEPLOYED):
            return f"/deployments/{quote(model, safe='')}{route}"
        return route


def endpoint(name: str, settings: UpstreamSettings) -> Endpoint:
    """An upstream of the file as an endpoint."""
    parts = urlsplit(settings.base_url)
    tls = parts.scheme == "https"
    address = Address(
        upstream=name,
        host=parts.hostname or "",
        port=parts.port or (443 if tls else 80),
        tls=tls,
        connect_timeout_s=settings.connect_timeout_s,
        first_byte_timeout_s=settings.first_byte_timeout_s,
        between_bytes_timeout_s=settings.between_bytes_timeout_s,
        total_timeout_s=settings.total_timeout_s,
        max_connections=settings.max_connections,
    )
    return Endpoint(
        name=name,
        address=address,
        path=parts.path.rstrip("/"),
        kind=settings.kind,
        api_version=settings.api_version,
        auth=settings.auth,
        models=settings.models,
        fallbacks=settings.fallbacks,
        asks_usage=settings.stream_usage == "ask",
    )


def server_endpoint(name: str, url: str) -> Endpoint:
    """A student's own server (`http://127.0.0.1:PORT/v1`) as an endpoint without credentials."""
    return endpoint(name, UpstreamSettings(base_url=url, connect_timeout_s=2))


class Directory:
    """Which upstream a model name belongs to. Immutable; answers are remembered, within a bound."""

    def __init__(self, endpoints: Mapping[str, Endpoint], default: str) -> None:
        self._endpoints = dict(endpoints)
        only = next(iter(self._endpoints), "") if len(self._endpoints) == 1 else ""
        self._default = self._endpoints.get(default or only)
        self._known: dict[str, Endpoint | None] = {}

    @property
    def models_decide(self) -> bool:
        """Whether a model's name changes where a request goes, or by which path."""
        return len(self._endpoints) > 1 or any(one.deploys for one in self._endpoints.values())

    def named(self, name: str) -> Endpoint | None:
        return self._endpoints.get(name)

    @property
    def default(self) -> Endpoint | None:
        return self._default

    def for_model(self, model: str) -> Endpoint | None:
        """The first upstream whose `models` name it, other than by "*"; else the default one if it takes all."""
        if model in self._known:
            return self._known[model]
        found = self._look_up(model)
        if len(self._known) < 10_000 and len(model) <= NAME_CHARACTERS:
            self._known[model] = found
        return found

    def _look_up(self, model: str) -> Endpoint | None:
        for one in self._endpoints.values():
            if any(glob != "*" and fnmatchcase(model, glob) for glob in one.models):
                return one
        takes_all = [one for one in self._endpoints.values() if "*" in one.models]
        if self._default is None:
            return takes_all[0] if len(takes_all) == 1 else None
        return self._default if self._default in takes_all or not model else None
