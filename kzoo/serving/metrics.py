"""What Prometheus reads at /metrics. Labels are names of models and signatures that there are."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS = Counter(
    "kzoo_requests",
    "Requests by the HTTP status of their answers",
    ["model", "signature", "status"],
)
ROWS = Counter("kzoo_rows", "Texts, sounds or pictures answered", ["model", "signature"])
IN_FLIGHT = Gauge("kzoo_requests_in_flight", "Requests waiting or computed", ["model"])
SECONDS = Histogram(
    "kzoo_request_seconds",
    "From the request to its answer",
    ["model", "signature"],
    buckets=_SECONDS,
)
BATCH_ROWS = Histogram(
    "kzoo_batch_rows",
    "Rows of the batch that a request was answered in",
    ["model", "signature"],
    buckets=_ROWS,
)
VERSIONS = Gauge(
    "kzoo_model_ready", "1 if the version answers, 0 if it cannot be loaded", ["model", "version"]
)
REFUSED = Counter("kzoo_refused", "Requests refused before a model saw them", ["status"])
