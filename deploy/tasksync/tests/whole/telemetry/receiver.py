"""An OTLP receiver (HTTP, protobuf) that knows nothing of tasksync.

Prints its port, then appends what it is sent to the file named on the command line, one JSON object per line.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

OUT = open(sys.argv[1], "a", encoding="utf-8")
LOCK = Lock()


def value(any_value):
    kind = any_value.WhichOneof("value")
    return None if kind is None else getattr(any_value, kind)


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def write(kind, **fields):
    with LOCK:
        OUT.write(json.dumps({"kind": kind, **fields}) + "\n")
        OUT.flush()


def take_traces(body):
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = attributes(resource.resource.attributes).get("service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                write(
                    "span",
                    service=service,
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    span_kind=Span.SpanKind.Name(span.kind),
                    status=Status.StatusCode.Name(span.status.code),
                    attributes=attributes(span.attributes),
                    links=[[link.trace_id.hex(), link.span_id.hex()] for link in span.links],
                    events=len(span.events),
                )
    return ExportTraceServiceResponse()


def take_metrics(body):
    request = ExportMetricsServiceRequest.FromString(body)
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                write(
                    "metric",
                    name=metric.name,
                    unit=metric.unit,
                    form=metric.WhichOneof("data"),
                    monotonic=getattr(data, "is_monotonic", None),
                    points=len(data.data_points),
                    installations=sorted(
                        {attributes(point.attributes).get("installation", "") for point in data.data_points}
                    ),
                )
    return ExportMetricsServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        takers = {"/v1/traces": take_traces, "/v1/metrics": take_metrics}
        taker = takers.get(self.path)
        right = taker and self.headers["content-type"] == "application/x-protobuf"
        answer = taker(body).SerializeToString() if right else b""
        self.send_response(200 if right else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
