"""`json_schema`: whether the output is JSON that a schema accepts: the grader's own, else the request's."""

from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from capture.errors import ConfigError
from capture.graders.grader import version_of
from capture.graders.sample import MISSING, Sample, json_of
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class JsonSchema:
    """1 where the schema accepts the output, 0 where not; no score where there is no (usable) schema."""

    name: str
    settings: GraderSettings
    validator: jsonschema_rs.Validator | None
    needs_reference: bool = False

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    def score(self, sample: Sample) -> float | None:
        validator = self.validator or _of_request(sample.request)
        if validator is None:
            return None
        output = json_of(sample.output, fences=self.settings.fences)
        return float(output is not MISSING and validator.is_valid(output))


def make_json_schema(name: str, settings: GraderSettings) -> JsonSchema:
    """Raises ConfigError for a schema that is none, or that refers to another document."""
    if settings.json_schema is None:
        return JsonSchema(name, settings, None)
    try:
        return JsonSchema(name, settings, compile_schema(settings.json_schema))
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ConfigError(f"grader {name!r}: its json_schema cannot be used: {str(error).splitlines()[0]}") from error


def compile_schema(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """A validator that fetches nothing: a reference to another document is an error.

    Raises ValueError (jsonschema_rs.ValidationError is one) or jsonschema_rs.ReferencingError.
    """
    return jsonschema_rs.validator_for(schema, offline=True)


def _of_request(request: dict[str, Any]) -> jsonschema_rs.Validator | None:
    """The request's `response_format` schema, where it compiles: a client's broken schema grades nothing."""
    response_format = request.get("response_format")
    described = response_format.get("json_schema") if isinstance(response_format, dict) else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        return None
    try:
        return compile_schema(schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None
