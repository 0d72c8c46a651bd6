"""The one tree of Stillhouse's own errors, and the exit code that each branch means.

StillhouseError
├── UsageError            exit 2: used or configured wrongly; changing what was typed mends it
│   ├── ConfigError       stillhouse.toml or the environment
│   ├── NotFoundError     no such task, exchange, dataset, student, rollout
│   └── RefusedError      asked for something that the rules forbid (a sealed holdout, terms, a second rollout)
└── OperationError        exit 1: the world said no; trying again later may work
    ├── StoreAwayError    the database cannot be reached or is locked
    ├── UpstreamAwayError an upstream does not answer, or answers with an error
    │   └── JudgeAwayError a judge cannot be asked now: no answer, no key, a cap that is reached
    ├── DiskError         no room, or a file that cannot be written
    └── IntegrityError    a hash differs from the one that was promised
"""


class StillhouseError(Exception):
    """Every error that a person should read: one line that says what is wrong and what to do."""

    exit_code = 1


class UsageError(StillhouseError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class NotFoundError(UsageError):
    pass


class RefusedError(UsageError):
    pass


class OperationError(StillhouseError):
    exit_code = 1


class StoreAwayError(OperationError):
    pass


class UpstreamAwayError(OperationError):
    pass


class JudgeAwayError(UpstreamAwayError):
    pass


class DiskError(OperationError):
    pass


class IntegrityError(OperationError):
    pass
