"""`stillhouse.toml` and the environment, read once where a process starts, into frozen settings.

The only reader of the environment. Every key can also be set as `STILLHOUSE_` + its path joined by two underscores
(`STILLHOUSE_GATEWAY__PORT=9000`). Unknown keys, missing secrets and unsafe combinations raise ConfigError. A variable
that a setting names (`api_key_env`) is a secret and no setting, whatever it is called.
"""

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from capture.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

PREFIX = "STILLHOUSE_"
_SERVICE_LINK = re.compile(PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_web_address(url: str) -> bool:
    """Whether a URL names a host by http or https, with a port that there can be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # what follows the colon is no port, what stands in brackets no address
        return False


class GatewaySettings(_Frozen):
    """Where the gateway listens and whom it lets in."""

    host: str = Field("127.0.0.1", min_length=1)  # an empty one would be every address
    port: int = Field(8080, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    metrics_host: str = Field("127.0.0.1", min_length=1)  # it holds numbers and names of tasks, and asks for no key
    metrics_port: int = Field(9464, ge=0, le=65535)
    keys: Literal["off", "required"] = "off"
    default_upstream: str = ""
    max_head_bytes: int = 64 * 1024
    max_body_bytes: int = 64 * 1024 * 1024
    head_timeout_s: float = 10
    body_timeout_s: float = 60
    idle_timeout_s: float = 75
    drain_s: float = 30
    otlp_endpoint: str = ""  # OTLP/HTTP's base URL (http://localhost:4318); empty: no telemetry
    max_connections: int = Field(4096, ge=1)  # of clients, in each process
    max_held_bytes: int = 1024 * 1024 * 1024  # bodies held at once, in each process


class FallbackSettings(_Frozen):
    """Who is asked next when a teacher fails: an upstream with a key of its own, and perhaps another model there."""

    upstream: str
    model: str | None = None  # None: the same name


class BreakerSettings(_Frozen):
    """When an upstream is left alone for a while: after failures in a row, or when too large a part of all failed."""

    failures: int = Field(5, ge=0)  # in a row; 0: it is never left alone
    failure_rate: float = Field(0.5, gt=0, le=1)  # of the requests of the last half to whole minute
    minimum: int = Field(20, ge=1)  # requests in that time, for the rate to count
    cool_down_s: float = Field(10, gt=0)  # then one request is tried


class UpstreamSettings(_Frozen):
    """An OpenAI-compatible server: where it is, whose credentials it gets, what its terms allow."""

    base_url: str
    kind: Literal["openai", "azure"] = "openai"
    api_version: str | None = None
    auth: Literal["forward", "key"] = "forward"
    api_key_env: str | None = None
    api_key_file: Path | None = None
    worker_key_env: str | None = None
    training_allowed: bool = False
    fine_tuning: tuple[str, ...] = ()  # models that may be fine-tuned there, with the worker's key and at its cost
    models: tuple[str, ...] = ("*",)
    stream_usage: Literal["as_sent", "ask"] = "as_sent"
    connect_timeout_s: float = 5
    first_byte_timeout_s: float = 120
    between_bytes_timeout_s: float = 120
    total_timeout_s: float = 1800
    max_connections: int = 1000  # in each gateway process
    fallbacks: tuple[FallbackSettings, ...] = ()  # asked in this order when it fails before its answer's first byte
    breaker: BreakerSettings = BreakerSettings()

    @model_validator(mode="after")
    def _sound(self) -> "UpstreamSettings":
        if not is_web_address(self.base_url):
            raise ValueError(f"base_url {self.base_url!r} must look like https://host/v1")
        if self.auth == "key" and not (self.api_key_env or self.api_key_file):
            raise ValueError('auth = "key" needs api_key_env or api_key_file')
        if self.fine_tuning and not (self.training_allowed and self.worker_key_env):
            raise ValueError("fine_tuning needs training_allowed = true and worker_key_env")
        return self


class MatchSettings(_Frozen):
    """A rule over a request's head: every given part must hold. `metadata` and `headers` compare exactly."""

    model: str | None = None  # a glob: "gpt-4.1*"
    metadata: dict[str, str] = {}
    headers: dict[str, str] = {}
    key: str | None = None
    fingerprint: str | None = None


class TeacherSettings(_Frozen):
    upstream: str
    model: str


class GraderMessageSettings(_Frozen):
    """One message of what a judge is asked; `content` may hold templates."""

    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str


class GraderSettings(_Frozen):
    """One grader of a task. `against`: what the output is compared with; `truth` is what people or outcomes said.

    The reference-free kinds (json_schema, refusal, truncation, empty, repetition, language) compare with nothing.
    `input` and `reference` may hold templates: see docs/graders.md.
    """

    type: Literal[
        "json_fields",
        "json_schema",
        "text_similarity",
        "string_check",
        "tool_calls",
        "refusal",
        "truncation",
        "empty",
        "repetition",
        "language",
        "score_model",
        "label_model",
        "python",
        "multi",
    ]
    against: Literal["teacher", "truth"] = "teacher"
    fields: dict[str, float] = {}  # name, or JSON pointer, -> weight; empty: every field of the reference
    field: str | None = None  # JSON pointer into both sides' JSON: compare this part alone
    fences: bool = False  # forgive a ``` fence around the output's JSON
    json_schema: dict[str, Any] | None = None
    metric: Literal[
        "fuzzy_match",
        "cosine",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ] = Field("fuzzy_match", validation_alias=AliasChoices("metric", "evaluation_metric"))
    operation: Literal["eq", "ne", "like", "ilike"] = "eq"
    name: str | None = None  # as OpenAI's shape has it; the key that it stands under is what names it
    input: str | tuple[GraderMessageSettings, ...] | None = None  # None: the output; of judges: the messages
    reference: str | None = None  # None: what `against` says
    pass_threshold: float | None = Field(None, ge=0, le=1)  # then 1 from there on, 0 below
    languages: tuple[str, ...] = ()  # that an answer may be in; empty: the question's
    upstream: str | None = None  # of judges; it must stand in the task's judges.upstreams
    model: str | None = None
    range: tuple[float, float] = (0, 1)  # of a judge's scores; brought to [0, 1]
    sampling_params: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    passing_labels: tuple[str, ...] = ()
    source: str | None = None  # Python that defines grade(sample, item)
    image_tag: str | None = None  # OpenAI's; ours runs under this machine's Python
    graders: dict[str, "GraderSettings"] = {}  # parts of a multi
    calculate_output: str | None = None  # formula over their names

    @model_validator(mode="after")
    def _whole(self) -> "GraderSettings":
        needs: dict[str, tuple[str, ...]] = {
            "score_model": ("upstream", "model", "input"),
            "label_model": ("upstream", "model", "input", "labels", "passing_labels"),
            "python": ("source",),
            "multi": ("graders", "calculate_output"),
        }
        missing = [name for name in needs.get(self.type, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"a grader of type {self.type} needs {', '.join(missing)}")
        if self.range[0] >= self.range[1]:
            raise ValueError("range must rise: [lowest, highest]")
        if strangers := sorted(set(self.passing_labels) - set(self.labels)):
            raise ValueError(f"passing_labels names {strangers[0]!r}, which is none of labels")
        return self

    @property
    def is_judge(self) -> bool:
        """Whether a model is asked."""
        return self.type in ("score_model", "label_model") or any(part.is_judge for part in self.graders.values())

    @property
    def runs_python(self) -> bool:
        return self.type == "python" or any(part.runs_python for part in self.graders.values())

    @property
    def judge_upstreams(self) -> frozenset[str]:
        own = {self.upstream} if self.upstream else set()
        return frozenset(own.union(*(part.judge_upstreams for part in self.graders.values())))


class JudgeSettings(_Frozen):
    """Where a task's judges may be asked, what they may cost, and how often they must agree with people."""

    upstreams: tuple[str, ...] = ()
    spend_cap_usd: float | None = Field(5.0, gt=0)  # a day
    run_cap_usd: float | None = Field(None, gt=0)  # in one pass over waiting exchanges, in one evaluation
    threshold: float = Field(0.7, gt=0.5, lt=1)  # the least that the interval of the agreement may begin at
    confidence: float = Field(0.95, gt=0.5, lt=1)
    minimum_of_each: int = Field(5, ge=1)  # reviews that accepted, and that rejected or corrected


class StratumSettings(_Frozen):
    """Exchanges that are kept at a rate of their own: every given part must hold; at least one is given."""

    rate: float = Field(gt=0, le=1)
    label: str | None = None  # as the task's `label` finds it in the answer
    language: str | None = None  # "de"; see capture/strata.py
    length: Literal["short", "medium", "long"] | None = None  # of the question: below 400, below 2000 characters, more
    prompt_version: str | None = None

    @model_validator(mode="after")
    def _says_which(self) -> "StratumSettings":
        if (self.label, self.language, self.length, self.prompt_version) == (None, None, None, None):
            raise ValueError("a stratum says which exchanges: label, language, length or prompt_version")
        return self


class SamplingSettings(_Frozen):
    """Which part of the traffic is kept. Rates are probabilities; each row keeps its own.

    The first stratum that fits an exchange decides, else `rate`. The holdout and the control arm are drawn by `rate`
    alone, apart from strata and caps. What one key or user has on a UTC day beyond its cap is thinned out: the n-th
    exchange stays with (cap / n)², so that no more than twice the cap is expected to.
    """

    rate: float = Field(1.0, gt=0, le=1)
    seed: int = 0
    strata: tuple[StratumSettings, ...] = ()
    per_key: int | None = Field(None, ge=1)  # a day
    per_user: int | None = Field(None, ge=1)


class RetentionSettings(_Frozen):
    """How long exchanges stay. Stored completions stay until their client deletes them, rows of datasets with these."""

    days: float | None = Field(None, gt=0)
    megabytes: float | None = Field(None, gt=0)  # of bodies, compressed; the oldest go first


class RedactionSettings(_Frozen):
    """What is replaced before the store. A field is named ("ssn": at any depth, also in JSON inside a text), or placed
    by a JSON pointer from the request's or the answer's root ("/metadata/*", "*" for every name or index)."""

    enabled: bool = True
    kinds: tuple[str, ...] = ("email", "phone", "card", "iban", "national_id", "ip", "secret")
    patterns: dict[str, str] = {}  # name -> regular expression
    deny: tuple[str, ...] = ()  # fields whose values are replaced whole, whatever they are
    allow: tuple[str, ...] = ()  # fields whose values stay as they are


class DatasetSettings(_Frozen):
    """What a build takes: shares and floors. `holdout` is fixed when an exchange is captured."""

    holdout: float = Field(0.1, gt=0, lt=0.9)
    near_duplicate: float = Field(0.85, gt=0, le=1)  # Jaccard similarity of word shingles
    minimum_rows: int = Field(10, ge=1)
    minimum_score: dict[str, float] = {}  # grader -> lowest score


class TrainingSettings(_Frozen):
    """How the local trainer trains; the defaults suit SmolLM2-135M on two cores."""

    base: str = "smollm2-135m-instruct"
    method: Literal["lora", "full"] = "lora"
    epochs: float = Field(3, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    rank: int = Field(16, ge=1)
    layers: int | None = Field(None, ge=1)  # LoRA on so many of the last layers alone: quicker, learns less; None: all
    batch_size: int = Field(8, ge=1)
    max_tokens: int = Field(1024, ge=16)  # rows longer than this are counted and left out
    validation: float = Field(0.0, ge=0, lt=0.5)  # share of the training rows that is held back to watch the loss
    patience: int = Field(2, ge=0)  # epochs in a row without a lower loss there that end it, with the best; 0: never
    checkpoint_every_s: float = Field(20, gt=0)  # the most that a killed training loses
    seed: int = 7
    adapter: bool = False  # LoRA's adapter is kept too, beside the merged model


class ViewSettings(_Frozen):
    """What the student sees of a request: see students/view.py."""

    system_prompt: Literal["keep", "drop"] = "keep"
    max_tokens: int = Field(256, ge=1)  # cap on an answer's length
    context_tokens: int = Field(2048, ge=64)


class GuardrailSettings(_Frozen):
    """What a rollout is guarded by: a metric that may get worse by `smallest` (a fraction) at most."""

    smallest: float = Field(0.02, ge=0, lt=1)
    target: float | None = Field(None, gt=0)  # latency, first_event: milliseconds; cost: US dollars an answer


class RolloutSettings(_Frozen):
    """The policy of a task's rollouts, in plain words; students/verdicts.py validates and obeys it."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.95)  # after shadow
    margin: float = 0.03
    alpha: float = 0.05
    gates: tuple[str, ...] = ()  # graders that must all be proven; empty: the task's first grader
    guardrails: dict[str, GuardrailSettings] = {}  # empty: what suits the task's kind, see students/presets.py
    slices: dict[str, str] = {}  # declared ones: name -> JSON pointer into the request ("/metadata/tier")
    minimum_pairs: int = 50  # at each stage
    minimum_sessions: int = 20
    minimum_hours: float = 0
    undecided_after_pairs: int = 5000
    undecided_after_hours: float | None = None
    most_fallbacks: float = 0.2  # the part of the student's requests that may fall back before the next step
    pairs_between_false_alarms: float = 10_000  # of the drift detector, on average
    pair_share: float = Field(1.0, gt=0, le=1)  # part of the eligible traffic that is paired
    watch_share: float = Field(0.1, gt=0, le=1)  # the same at full, where pairs cost for ever
    deadline_s: float | None = Field(None, gt=0)
    wait_for_person_before: tuple[float, ...] = ()  # shares; resuming the rollout lets it enter
    spend_cap_usd: float | None = None  # a day, for background calls


class EvaluationSettings(_Frozen):
    """How a task's students are examined."""

    base_rows: int | None = Field(None, ge=1)  # holdout rows for the untuned and the few-shot base, drawn evenly; all
    few_shot: int = Field(0, ge=0, le=8)  # examples in the prompt of the base that students have to beat; 0: none


class LoopSettings(_Frozen):
    """When a task builds, trains, evaluates and rolls out anew by itself, and what of it waits for a person."""

    after_rows: int | None = Field(None, ge=1)  # new accepted rows since the last turn; None: only by hand
    wait_for_person: tuple[Literal["build", "train", "evaluate", "rollout"], ...] = ()
    proof: Literal["mean", "interval"] = "mean"  # what must lie above the incumbent: the mean, or its whole interval


class TaskSettings(_Frozen):
    """One narrow, named workload that gets distilled."""

    kind: Literal["classification", "extraction", "text", "tools"] = "extraction"
    match: MatchSettings = MatchSettings()
    teacher: TeacherSettings
    fallbacks: tuple[FallbackSettings, ...] = ()  # in place of the teacher's upstream's own
    label: str | None = None  # JSON pointer into the answer ("/category"), or "" for the whole answer
    graders: dict[str, GraderSettings] = {}
    sampling: SamplingSettings = SamplingSettings()
    redaction: RedactionSettings = RedactionSettings()
    retention: RetentionSettings = RetentionSettings()
    dataset: DatasetSettings = DatasetSettings()
    training: TrainingSettings = TrainingSettings()
    view: ViewSettings = ViewSettings()
    rollout: RolloutSettings = RolloutSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    loop: LoopSettings = LoopSettings()
    judges: JudgeSettings = JudgeSettings()

    @model_validator(mode="after")
    def _judged_where_allowed(self) -> "TaskSettings":
        for name, grader in self.graders.items():
            if strangers := sorted(grader.judge_upstreams - set(self.judges.upstreams)):
                raise ValueError(
                    f"graders.{name} asks upstream {strangers[0]!r}: name it in the task's judges.upstreams"
                )
        return self


class PythonGraderSettings(_Frozen):
    """Whether graders of type `python` may run, which run code that a task's settings hold, and within which limits."""

    allowed: bool = False
    cpu_s: int = Field(10, ge=1)
    wall_s: float = Field(10, gt=0)  # for one answer
    memory_mb: int = Field(512, ge=64)


class CaptureSettings(_Frozen):
    segment_bytes: int = 8 * 1024 * 1024
    spool_bytes: int = 2 * 1024 * 1024 * 1024  # the disk bound; drops beyond it are counted
    fsync: Literal["never", "interval", "always"] = "interval"
    retention: RetentionSettings = RetentionSettings()  # of exchanges that belong to no task


class StudentServerSettings(_Frozen):
    """The process that serves local students."""

    host: str = Field("127.0.0.1", min_length=1)
    advertise: str = ""  # the host that gateways reach it by; empty: `host`
    first_port: int = 9600
    memory_mb: int = 4096
    idle_s: float = Field(3600, gt=0)  # a model that a client of the API made sleeps after so long without a request
    engine: Literal["transformers"] = "transformers"
    allow_hub: bool = False


class FineTuningSettings(_Frozen):
    """What clients may do by `/v1/files` and `/v1/fine_tuning/jobs`; models of upstreams are offered by these."""

    bases: tuple[str, ...] = ("smollm2-135m-instruct",)  # that this machine trains; see `stillhouse models list`
    file_bytes: int = Field(512 * 1024 * 1024, ge=1)  # the most of one file
    total_bytes: int = Field(10 * 1024 * 1024 * 1024, ge=1)  # the most of all files of one key


ConsoleRole = Literal["viewer", "reviewer", "operator"]


class LoginSettings(_Frozen):
    """Who may use the console: an OpenID Connect provider says who somebody is, `people` what they may do."""

    issuer: str  # https://accounts.example.com
    client_id: str
    client_secret_env: str | None = None
    client_secret_file: Path | None = None
    public_url: str  # what people type; the provider sends them back to public_url + /oauth2callback
    people: dict[str, ConsoleRole]  # mail address, or *@domain -> role; who is not named here is not let in
    unverified: bool = False  # let in also whose address the provider does not call verified

    @model_validator(mode="after")
    def _sound(self) -> "LoginSettings":
        for name, url in (("issuer", self.issuer), ("public_url", self.public_url)):
            if not is_web_address(url):
                raise ValueError(f"{name} {url!r} must look like https://host")
            parts = urlsplit(url)
            if parts.scheme == "http" and parts.hostname not in LOOPBACK:
                raise ValueError(f"{name} {url!r} must be https: only this machine is reached without")
        if bool(self.client_secret_env) == bool(self.client_secret_file):
            raise ValueError("name the client's secret by client_secret_env or client_secret_file")
        if not self.people:
            raise ValueError('people is empty, so nobody could log in: people = { "you@example.com" = "operator" }')
        return self


class ConsoleSettings(_Frozen):
    """Where the console listens. A public bind is refused unless somebody asks there who is looking."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8501, ge=0, le=65535)
    allow_public: bool = False  # a login stands in front of it
    role: ConsoleRole = "operator"  # of whoever reaches it, where no login is set
    login: LoginSettings | None = None


class PriceSettings(_Frozen):
    """USD per million tokens; for models that the bundled price list does not know, or to override it."""

    input: float
    output: float
    training: float | None = None  # per token of the rows, each time that it is seen; no list has these


class Settings(BaseSettings):
    """Everything of `stillhouse.toml`. Build with `load`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    data: Path = Path("data")
    database_url: str = ""
    gateway: GatewaySettings = GatewaySettings()
    capture: CaptureSettings = CaptureSettings()
    upstreams: dict[str, UpstreamSettings] = {}
    tasks: dict[str, TaskSettings] = {}
    students: StudentServerSettings = StudentServerSettings()
    fine_tuning: FineTuningSettings = FineTuningSettings()
    console: ConsoleSettings = ConsoleSettings()
    prices: dict[str, PriceSettings] = {}
    python_graders: PythonGraderSettings = PythonGraderSettings()

    @model_validator(mode="after")
    def _sound(self) -> "Settings":
        gateway = self.gateway
        if self.database_url and not self.database_url.startswith(("postgresql", "postgres:")):
            raise ValueError("database_url is for postgresql://…: leave it empty for SQLite in the data folder")
        if self.database_url:
            _check_database(self.database_url)
        if gateway.default_upstream and gateway.default_upstream not in self.upstreams:
            raise ValueError(f"gateway.default_upstream {gateway.default_upstream!r} is not under [upstreams]")
        if gateway.host not in LOOPBACK and gateway.keys != "required":
            raise ValueError(f'gateway.host {gateway.host} is public: set gateway.keys = "required" or bind 127.0.0.1')
        if self.console.host not in LOOPBACK and not (self.console.allow_public or self.console.login):
            raise ValueError(
                f"console.host {self.console.host} is public: bind 127.0.0.1, set [console.login], or put a login in "
                "front of it and set allow_public"
            )
        for name, task in self.tasks.items():
            if task.teacher.upstream not in self.upstreams:
                raise ValueError(f"tasks.{name}.teacher.upstream {task.teacher.upstream!r} is not under [upstreams]")
            if strangers := sorted(set(task.judges.upstreams) - set(self.upstreams)):
                raise ValueError(f"tasks.{name}.judges.upstreams: {strangers[0]!r} is not under [upstreams]")
        for where, fallbacks in (
            *((f"upstreams.{name}", upstream.fallbacks) for name, upstream in self.upstreams.items()),
            *((f"tasks.{name}", task.fallbacks) for name, task in self.tasks.items()),
        ):
            for fallback in fallbacks:
                self._check_fallback(where, fallback)
        return self

    def _check_fallback(self, where: str, fallback: FallbackSettings) -> None:
        """The client's key is for the upstream that it meant: the next one needs a key of its own."""
        upstream = self.upstreams.get(fallback.upstream)
        if upstream is None:
            raise ValueError(f"{where}.fallbacks: {fallback.upstream!r} is not under [upstreams]")
        if upstream.auth != "key":
            raise ValueError(f'{where}.fallbacks: {fallback.upstream!r} needs auth = "key" and a key of its own')

    @property
    def store_url(self) -> str:
        """The database's URL: DATABASE_URL, else one SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{self.store_file}"

    @property
    def store_file(self) -> Path:
        """Where the store lies unless DATABASE_URL names another."""
        return self.data / "stillhouse.db"

    @property
    def spool_folder(self) -> Path:
        return self.data / "spool"

    @property
    def models_folder(self) -> Path:
        """Base models, fetched once."""
        return self.data / "models"


def load(config: Path | None, environ: Mapping[str, str], *, data: Path | None = None) -> Settings:
    """Settings from a TOML file (or none), overridden by the environment, overridden by `data`.

    Raises ConfigError with one line for a missing or broken file, unknown keys and unsafe combinations.
    """
    values = _read(config) if config else {}
    given = {name.lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    secrets = frozenset(_named({**values, **given}))
    _check_names(environ, secrets)
    if data is not None:
        values["data"] = data
    elif "STILLHOUSE_DATA" in environ:
        values["data"] = Path(environ["STILLHOUSE_DATA"])
    if environ.get("DATABASE_URL"):
        values["database_url"] = environ["DATABASE_URL"]
    gateway = values.setdefault("gateway", {})
    if isinstance(gateway, dict) and environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        gateway.setdefault("otlp_endpoint", environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
    try:
        return _layered(values, {name: value for name, value in environ.items() if name not in secrets})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        message = "no such setting" if unknown else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{config or 'environment'}: {where + ': ' if where else ''}{message}") from error
    except SettingsError as error:
        value = getattr(error.__cause__, "doc", None)  # the text that is no JSON
        name = next((name for name in environ if name.startswith(PREFIX) and environ[name] == value), PREFIX + "…")
        raise ConfigError(f"""{name}: a list is written ["a", "b"] there, a table {{"a": 1}}""") from error


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    """The variables that settings name, at any depth, as where a secret stands: by `api_key_env` and the like."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif name.endswith("_env") and isinstance(value, str):
            yield value


def _check_names(environ: Mapping[str, str], secrets: Collection[str]) -> None:
    """A misspelt name must not leave keys off that were meant to be required. Raises ConfigError."""
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG" or _is_service_link(name, value):
            continue
        if name in secrets:
            continue
        if name.removeprefix(PREFIX).lower().split("__")[0] not in Settings.model_fields:
            raise ConfigError(f"{name} in the environment: no such setting")


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes put it there, beside a service whose name begins with stillhouse: where that listens."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and "://" in value)


def _check_database(url: str) -> None:
    """Raises ValueError for what is no address of a database; it may hold a password, and so is not said again."""
    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ValueError("database_url must look like postgresql://user:password@host:5432/name") from error


def _layered(values: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            *_: PydanticBaseSettingsSource,
            **__: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = EnvSettingsSource(settings_cls)
            source.env_vars = {name.lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
            return (source, init_settings)

    return Layered(**values)


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{config}: no such file; `stillhouse init` writes one") from error
    except IsADirectoryError as error:  # what `docker compose up` makes of a file that is not there
        raise ConfigError(f"{config} is a folder: remove it; `stillhouse init` writes the file") from error
    except OSError as error:
        raise ConfigError(f"{config} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config}: not valid TOML: {error}") from error


def find_config(option: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """`--config`, else `$STILLHOUSE_CONFIG`, else `stillhouse.toml` in the working folder, else none."""
    if option is not None:
        return option
    if environ.get("STILLHOUSE_CONFIG"):
        return Path(environ["STILLHOUSE_CONFIG"])
    default = folder / "stillhouse.toml"
    return default if default.exists() else None


def secret(upstream: UpstreamSettings, environ: Mapping[str, str] | None = None, *, worker: bool = False) -> str | None:
    """An upstream's key: the gateway's own (`auth = "key"`) or the worker's, for background calls; None if none.

    Read again at each call, so that a key can be rotated without a restart.
    """
    environ = os.environ if environ is None else environ
    name = upstream.worker_key_env if worker else upstream.api_key_env
    if name:
        return environ.get(name)
    if not worker and upstream.api_key_file:
        return upstream.api_key_file.read_text(encoding="utf-8").strip()
    return None


def check_upstreams(settings: Settings) -> None:
    """Raises ConfigError where there is none, since a gateway could answer nothing."""
    if not settings.upstreams:
        raise ConfigError(
            "no upstream is configured: add [upstreams.NAME] to stillhouse.toml, or run `stillhouse init`"
        )


def check_secrets(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for the first upstream with `auth = "key"` whose key is not there."""
    for name, upstream in settings.upstreams.items():
        check_secret(name, upstream, environ)


def check_secret(name: str, upstream: UpstreamSettings, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for an upstream with `auth = "key"` whose key is not there."""
    if upstream.auth != "key":
        return
    file = upstream.api_key_file
    with _readable(f"upstreams.{name}.api_key_file {file}"):
        found = secret(upstream, environ)
    if not found:
        place = f"the environment variable {upstream.api_key_env}" if upstream.api_key_env else f"the file {file}"
        raise ConfigError(f"upstreams.{name} has no key: put it into {place}")


def login_secret(login: LoginSettings, environ: Mapping[str, str]) -> str:
    """The login's client secret. Raises ConfigError where its variable or file is not there, or empty."""
    if login.client_secret_file:
        place = f"the file {login.client_secret_file}"
        with _readable(f"console.login.client_secret_file {login.client_secret_file}"):
            found = login.client_secret_file.read_text(encoding="utf-8").strip()
    else:
        place = f"the environment variable {login.client_secret_env}"
        found = environ.get(str(login.client_secret_env), "")
    if not found:
        raise ConfigError(f"console.login needs the client's secret in {place}")
    return found


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turns a secret's file that cannot be read into ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} is no text in UTF-8") from error


def of_process(config: Path | None, data: Path | None) -> Settings:
    """What a process starts with: the file found and laid over by its own environment and working folder."""
    return load(find_config(config, os.environ, Path.cwd()), os.environ, data=data)
