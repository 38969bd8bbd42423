"""OpenTelemetry's traces, if its environment variables ask for them. Needs the extra `tracing`."""

import os

ASKS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start():
    """Sends spans to where OTEL_EXPORTER_OTLP_ENDPOINT says.

    Returns:
        bool, whether it was asked for.

    Raises:
        ImportError: it was, and the extra `tracing` is not installed.
    """
    if not is_asked_for():
        return False
    import opentelemetry.instrumentation.asgi
    import opentelemetry.instrumentation.grpc  # noqa: F401 (rather now than at a request)
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "kzoo")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


def is_asked_for():
    """Whether an environment variable names an endpoint, and none switches tracing off."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_off and any(os.environ.get(name) for name in ASKS)


def instrument_app(app):
    """Puts spans around the requests of a FastAPI app, if they are asked for."""
    if is_asked_for():
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        app.add_middleware(OpenTelemetryMiddleware)


def grpc_interceptors():
    """Interceptors that put spans around calls: list, empty unless they are asked for."""
    if not is_asked_for():
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    return [aio_server_interceptor()]
