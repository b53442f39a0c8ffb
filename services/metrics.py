"""Numbers for Prometheus, served at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

ACCEPTED = Counter("botfactory_accepted_total", "Updates stored in the inbox", ["kind"], registry=REGISTRY)
REPEATED = Counter("botfactory_repeated_total", "Deliveries that were already known", ["kind"], registry=REGISTRY)
ANSWERED = Counter("botfactory_answered_total", "Answers by what made them", ["provider"], registry=REGISTRY)
SENT = Counter(
    "botfactory_sent_total", "Outgoing messages by what became of them", ["kind", "outcome"], registry=REGISTRY
)
SET_ASIDE = Counter("botfactory_set_aside_total", "Items given up after several attempts", ["queue"], registry=REGISTRY)
OVER_LIMIT = Counter("botfactory_over_limit_total", "Messages refused by a limit", ["limit"], registry=REGISTRY)
MODEL_CALLS = Counter("botfactory_model_calls_total", "Model calls", ["provider", "outcome"], registry=REGISTRY)
MODEL_SECONDS = Histogram(
    "botfactory_model_seconds", "Time of a model call", ["provider"], registry=REGISTRY, buckets=_SECONDS
)
MODEL_COST = Counter(
    "botfactory_model_cost_usd_total",
    "What model calls cost, by whose key pays",
    ["provider", "payer"],
    registry=REGISTRY,
)
ANSWER_SECONDS = Histogram(
    "botfactory_answer_seconds", "From accepting a question to its stored answer", registry=REGISTRY, buckets=_SECONDS
)
IN_WORK = Gauge("botfactory_in_work", "Lanes in work in this process", ["queue"], registry=REGISTRY)
PENDING = Gauge("botfactory_pending", "Open items", ["queue"], registry=REGISTRY)
COMMITS = Counter("botfactory_commits_total", "Grouped commits of the queues", registry=REGISTRY)
COMMITTED = Counter("botfactory_committed_total", "Operations in these commits", ["operation"], registry=REGISTRY)
GROUPS_SPLIT = Counter(
    "botfactory_groups_split_total", "Groups that failed as a whole and were tried one by one", registry=REGISTRY
)
WRITES_WAITING = Gauge("botfactory_writes_waiting", "Writes of the queues before their commit", registry=REGISTRY)
CHANNELS = Gauge("botfactory_channels", "Telegram channels received from", ["state"], registry=REGISTRY)
POLL_ERRORS = Counter("botfactory_poll_errors_total", "Failed long polls", ["reason"], registry=REGISTRY)
DOCUMENTS = Counter("botfactory_documents_total", "Documents read", ["outcome"], registry=REGISTRY)
UPDATES_SKIPPED = Counter(
    "botfactory_updates_unused_total", "Updates of kinds that nothing uses", ["kind"], registry=REGISTRY
)
REQUESTS = Counter("botfactory_http_requests_total", "HTTP requests", ["method", "route", "status"], registry=REGISTRY)
PAYMENT_CALLS = Counter(
    "botfactory_payment_calls_total", "Calls of payment gateways", ["gateway", "action", "code"], registry=REGISTRY
)
TOLD = Counter(
    "botfactory_endpoint_events_total",
    "Events sent to owners’ own servers, by what became of them",
    ["outcome"],
    registry=REGISTRY,
)
STREAMS = Gauge("botfactory_visitor_streams", "Visitors whose talk is open in this process", registry=REGISTRY)
CACHE = Gauge("botfactory_cache_bytes", "Estimated size of the prepared knowledge bases in memory", registry=REGISTRY)


def render() -> bytes:
    """Return the exposition text."""
    return generate_latest(REGISTRY)
