"""Receivers as strict as what the vendors publish: Splunk's HTTP Event Collector, Entra ID and the Logs Ingestion API of
Azure Monitor, Datadog's intakes, Elasticsearch's bulk API, and a collector of OCSF.

Each refuses what its vendor documents as an error, with the documented status and code, and notes what its vendor would
pass over in silence (such as a column that no table has) under `complaints`. `faults` holds answers that are given to the
next requests instead, in order: pairs of status and body, or triples with headers.
"""

import gzip
import http.server
import json
import re
import secrets
import ssl
import threading
import time
import urllib.parse

GUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status, body, headers=None):
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, headers or {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.take()

    def do_POST(self):
        self.take()

    def do_PUT(self):
        self.take()

    def take(self):
        receiver = self.server.receiver
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        with receiver.lock:
            receiver.requests += 1
            try:
                status, body, headers = receiver.answer(self.command, self.path, self.headers, raw)
            except Refusal as refusal:
                status, body, headers = refusal.status, refusal.body, refusal.headers
                receiver.refused.append((status, body))
        written = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(written)))
        self.end_headers()
        if status != 204:
            self.wfile.write(written)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # Whoever was killed does not say goodbye.


class Receiver:
    """Takes events. `got` holds them as they came, repeats included."""

    # What the vendor takes, and what it promises to take.
    bytes_max, bytes_promised = None, 1_000_000

    def __init__(self, certificate):
        self.lock = threading.RLock()
        self.got, self.complaints, self.refused, self.faults, self.bodies = [], [], [], [], []
        self.requests = 0
        server = Server(("127.0.0.1", 0), Handler)
        server.receiver = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_address[1]
        self.url = f"https://localhost:{self.port}"

    def fault(self):
        if self.faults:
            given = self.faults[0](self) if callable(self.faults[0]) else self.faults.pop(0)
            if given is not None:
                raise Refusal(*given)

    def plain(self, headers, raw, too_large):
        """The body as it was before it was compressed; both sizes count."""
        encoding = headers.get("content-encoding")
        try:
            body = gzip.decompress(raw) if encoding == "gzip" else raw
        except (OSError, EOFError):
            raise Refusal(400, {"error": "this is no gzip"}) from None
        if encoding not in (None, "gzip"):
            raise Refusal(415, {"error": f"no such encoding: {encoding}"})
        if self.bytes_max and max(len(body), len(raw)) > self.bytes_max:
            raise Refusal(413, too_large)
        self.bodies.append((encoding, len(raw), len(body)))
        return body

    def numbers(self):
        """The numbers of entries that came."""
        with self.lock:
            return sorted({self.number_of(event) for event in self.got} - {0})


class Hec(Receiver):
    """Splunk's collector with one token. `acknowledges` is whether the token has acknowledgement."""

    bytes_max = 1_000_000
    keys = {"time", "host", "source", "sourcetype", "index", "event", "fields"}

    def __init__(self, certificate, token, acknowledges, indexes=("main",), poison=None):
        super().__init__(certificate)
        self.token, self.acknowledges, self.indexes, self.poison = token, acknowledges, indexes, poison
        self.is_enabled = True
        self.pending, self.next_ack, self.never_acks, self.polls = {}, 0, 0, 0

    @staticmethod
    def number_of(event):
        return event["event"].get("number") or event["event"].get("unmapped", {}).get("number") or 0

    @staticmethod
    def said(status, code, text, **more):
        return Refusal(status, {"text": text, "code": code, **more})

    def answer(self, method, path, headers, raw):
        path = urllib.parse.urlsplit(path).path
        if method == "GET" and path == "/services/collector/health":
            return 200, {"text": "HEC is healthy", "code": 17}, {}
        self.fault()
        self.check_token(headers)
        channel = headers.get("x-splunk-request-channel")
        if self.acknowledges:
            if not channel:
                raise self.said(400, 10, "Data channel is missing")
            if not GUID.fullmatch(channel):
                raise self.said(400, 11, "Invalid data channel")
        if path == "/services/collector/ack":
            return 200, self.acks(channel, raw), {}
        if path not in ("/services/collector", "/services/collector/event", "/services/collector/event/1.0"):
            raise Refusal(404, {"text": "The requested URL was not found on this server.", "code": 404})
        events = list(self.events(self.plain(headers, raw, {"text": "Content too large", "code": 27})))
        if not events:
            raise self.said(400, 5, "No data")
        self.got.extend(events)
        said = {"text": "Success", "code": 0}
        if self.acknowledges:
            said["ackId"], self.next_ack = self.next_ack, self.next_ack + 1
            # The indexers need two questions; those of the first batches never answer, where told so.
            lost, self.never_acks = self.never_acks > 0, max(self.never_acks - 1, 0)
            self.pending[channel, said["ackId"]] = None if lost else 2
        return 200, said, {}

    def check_token(self, headers):
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            raise self.said(401, 2, "Token is required")
        if scheme != "Splunk" or not token:
            raise self.said(401, 3, "Invalid authorization")
        if token != self.token:
            raise self.said(403, 4, "Invalid token")
        if not self.is_enabled:
            raise self.said(403, 1, "Token disabled")

    def events(self, body):
        text, at, number = body.decode(), 0, 0
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            bad = self.said(400, 6, "Invalid data format", **{"invalid-event-number": number})
            try:
                event, at = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                raise bad from None
            if not isinstance(event, dict) or set(event) - self.keys:
                raise bad
            self.check_event(event, number)
            if self.poison and self.poison in json.dumps(event):
                raise bad
            number += 1
            yield event

    def check_event(self, event, number):
        where = {"invalid-event-number": number}
        if "event" not in event:
            raise self.said(400, 12, "Event field is required", **where)
        if event["event"] in ("", None, {}):
            raise self.said(400, 13, "Event field cannot be blank", **where)
        if event.get("index", "main") not in self.indexes:
            raise self.said(400, 7, "Incorrect index", **where)
        fields = event.get("fields", {})
        flat = lambda value: isinstance(value, (str, int, float)) or (
            isinstance(value, list) and all(isinstance(one, str) for one in value))
        if not isinstance(fields, dict) or not all(map(flat, fields.values())):
            raise self.said(400, 15, "Error in handling indexed fields", **where)
        for key in ("host", "source", "sourcetype"):
            if not isinstance(event.get(key, "-"), str):
                raise self.said(400, 6, "Invalid data format", **where)
        if not isinstance(event.get("time", 0.0), (int, float)):
            self.complaints.append(f"the time is no number: {event['time']!r}")

    def acks(self, channel, raw):
        if not self.acknowledges:
            raise self.said(400, 14, "ACK is disabled")
        asked = json.loads(raw)["acks"]
        self.polls += 1
        answer = {}
        for number in asked:
            left = self.pending.get((channel, number))
            answer[str(number)] = left == 0
            if left == 0:
                # It is said once.
                del self.pending[channel, number]
            elif left is not None:
                self.pending[channel, number] = left - 1
        return {"acks": answer}


class Entra(Receiver):
    """Entra ID as far as an app with a secret needs it."""

    def __init__(self, certificate, tenant, client_id, secret, lasts=3600):
        super().__init__(certificate)
        self.tenant, self.client_id, self.secret, self.lasts = tenant, client_id, secret, lasts
        self.tokens = {}

    def answer(self, method, path, headers, raw):
        if method == "GET" and path.endswith("/.well-known/openid-configuration"):
            base = f"{self.url}/{self.tenant}"
            return 200, {"issuer": f"{base}/v2.0", "token_endpoint": f"{base}/oauth2/v2.0/token",
                         "authorization_endpoint": f"{base}/oauth2/v2.0/authorize"}, {}
        self.fault()
        if urllib.parse.urlsplit(path).path != f"/{self.tenant}/oauth2/v2.0/token":
            raise Refusal(400, {"error": "invalid_request", "error_description": "AADSTS90002: tenant not found"})
        if headers.get_content_type() != "application/x-www-form-urlencoded":
            raise Refusal(400, {"error": "invalid_request", "error_description": "AADSTS900144"})
        form = dict(urllib.parse.parse_qsl(raw.decode(), strict_parsing=True))
        if form.get("grant_type") != "client_credentials":
            raise Refusal(400, {"error": "unsupported_grant_type"})
        if form.get("scope") != "https://monitor.azure.com/.default":
            raise Refusal(400, {"error": "invalid_scope", "error_description": "AADSTS70011"})
        if form.get("client_id") != self.client_id:
            raise Refusal(400, {"error": "unauthorized_client", "error_description": "AADSTS700016"})
        if form.get("client_secret") != self.secret:
            raise Refusal(401, {"error": "invalid_client", "error_description": "AADSTS7000215"})
        token = secrets.token_urlsafe(32)
        self.tokens[token] = time.monotonic() + self.lasts
        return 200, {"token_type": "Bearer", "expires_in": self.lasts, "ext_expires_in": self.lasts,
                     "access_token": token}, {}


class Ingestion(Receiver):
    """The Logs Ingestion API with one rule and one stream. `entra` says which tokens are good."""

    # 1 MiB of rows: Microsoft's own client does not count what stands between them.
    bytes_max = 1_048_576 + 16_384

    def __init__(self, certificate, entra, rule, stream, columns):
        super().__init__(certificate)
        self.entra, self.rule, self.stream, self.columns = entra, rule, stream, columns
        self.has_role = True

    @staticmethod
    def number_of(row):
        return row.get("EntryNumber", 0)

    @staticmethod
    def error(status, code, message):
        return Refusal(status, {"error": {"code": code, "message": message}})

    def answer(self, method, path, headers, raw):
        self.fault()
        parts = urllib.parse.urlsplit(path)
        found = re.fullmatch(r"/dataCollectionRules/([^/]+)/streams/([^/]+)", parts.path)
        if method != "POST" or not found:
            raise self.error(404, "NotFound", "no such path")
        if dict(urllib.parse.parse_qsl(parts.query)).get("api-version") != "2023-01-01":
            raise self.error(400, "InvalidApiVersion", "api-version is missing or unknown")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self.entra.tokens.get(token, 0) < time.monotonic():
            raise self.error(401, "AuthenticationFailed", "the token is missing, unknown or over")
        if not self.has_role:
            raise self.error(403, "OperationFailed", "the token does not have permission to send to the rule")
        if found[1] != self.rule:
            raise self.error(404, "NotFound", f"no data collection rule with immutable id {found[1]}")
        if found[2] != self.stream:
            raise self.error(400, "InvalidStream", f"the rule declares no stream {found[2]}")
        if headers.get_content_type() != "application/json":
            raise self.error(400, "InvalidContentType", "send application/json")
        large = {"error": {"code": "ContentLengthLimitExceeded", "message": "1 MB is the limit"}}
        try:
            rows = json.loads(self.plain(headers, raw, large))
        except ValueError:
            raise self.error(400, "InvalidPayload", "this is no JSON") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(400, "InvalidPayload", "an array of objects is wanted")
        for row in rows:
            # Azure passes these over: a column that no table has is dropped, a time that is none becomes that of arrival.
            if unknown := set(row) - set(self.columns):
                self.complaints.append(f"columns that no table has: {unknown}")
            if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z", row.get("TimeGenerated", "")):
                self.complaints.append(f"TimeGenerated is no time: {row.get('TimeGenerated')!r}")
            for name, value in row.items():
                if value is not None and not isinstance(value, self.columns.get(name, object)):
                    self.complaints.append(f"{name} is of another type: {value!r:.80}")
        self.got.extend(rows)
        return 204, None, {}


class Datadog(Receiver):
    """Datadog's intake of logs, and its intake of events."""

    bytes_max = bytes_promised = 5_000_000

    def __init__(self, certificate, key):
        super().__init__(certificate)
        self.key, self.events = key, []

    @staticmethod
    def number_of(log):
        return log.get("checkgate", {}).get("number", 0)

    def answer(self, _, path, headers, raw):
        self.fault()
        path = urllib.parse.urlsplit(path).path
        if path not in ("/api/v2/logs", "/api/v1/events"):
            raise Refusal(404, {"errors": ["Not found"]})
        key = headers.get("dd-api-key")
        if not key:
            raise Refusal(401, {"errors": [{"status": "401", "title": "Unauthorized"}]})
        if key != self.key:
            raise Refusal(403, {"errors": [{"status": "403", "title": "Forbidden"}]})
        if headers.get_content_type() != "application/json":
            raise Refusal(400, {"errors": [{"status": "400", "title": "Bad Request", "detail": "content type"}]})
        try:
            said = json.loads(self.plain(headers, raw, {"errors": [{"status": "413", "title": "Payload Too Large"}]}))
        except ValueError:
            raise Refusal(400, {"errors": [{"status": "400", "title": "Bad Request", "detail": "no JSON"}]}) from None
        return self.take_event(said) if path == "/api/v1/events" else self.take_logs(said)

    def take_logs(self, said):
        logs = said if isinstance(said, list) else [said]
        if len(logs) > 1000:
            raise Refusal(413, {"errors": [{"status": "413", "title": "Payload Too Large"}]})
        for log in logs:
            if not isinstance(log, dict) or not isinstance(log.get("message"), str):
                raise Refusal(400, {"errors": [{"status": "400", "title": "Bad Request", "detail": "message"}]})
            # Datadog cuts a log that is longer, and rewrites tags that are not as it keeps them.
            if len(json.dumps(log)) > 1_000_000:
                self.complaints.append("a log is longer than 1 MB")
            for tag in filter(None, log.get("ddtags", "").split(",")):
                if not re.fullmatch(r"[a-z][a-z0-9_:./-]{0,199}", tag):
                    self.complaints.append(f"no tag as Datadog keeps it: {tag!r}")
            if abs(time.time() * 1000 - log.get("timestamp", time.time() * 1000)) > 18 * 3_600_000:
                self.complaints.append("a log is older than 18 hours")
        self.got.extend(logs)
        return 202, {}, {}

    def take_event(self, event):
        lengths = {"title": 500, "text": 4000, "aggregation_key": 100}
        too_long = [key for key, most in lengths.items() if len(event.get(key, "")) > most]
        recent = abs(time.time() - event.get("date_happened", time.time())) <= 18 * 3600
        types = ("error", "warning", "info", "success", "user_update", "recommendation", "snapshot")
        if too_long or not recent or not {"title", "text"} <= set(event) or event.get("alert_type", "info") not in types:
            raise Refusal(400, {"errors": ["Bad Request"]})
        self.events.append(event)
        return 202, {"status": "ok", "event": {"id": len(self.events), "title": event["title"]}}, {}


class Elastic(Receiver):
    """Elasticsearch's bulk API with one data stream."""

    bytes_max = bytes_promised = 100_000_000
    always = {"X-Elastic-Product": "Elasticsearch"}

    def __init__(self, certificate, key, stream, poison=None):
        super().__init__(certificate)
        self.key, self.stream, self.poison = key, stream, poison
        self.documents, self.busy_items, self.repeats = {}, 0, 0

    @staticmethod
    def number_of(document):
        return document.get("checkgate", {}).get("number", 0)

    def failed(self, status, kind, reason):
        return Refusal(status, {"error": {"type": kind, "reason": reason}, "status": status}, self.always)

    def answer(self, method, path, headers, raw):
        self.fault()
        parts = urllib.parse.urlsplit(path)
        if headers.get("authorization") != f"ApiKey {self.key}":
            raise self.failed(401, "security_exception", "unable to authenticate with provided credentials")
        if method not in ("POST", "PUT") or parts.path != "/_bulk":
            raise self.failed(405, "method_not_allowed", "no such path")
        if headers.get_content_type() not in ("application/x-ndjson", "application/vnd.elasticsearch+x-ndjson"):
            raise self.failed(406, "media_type_header_exception", "Content-Type is not supported")
        body = self.plain(headers, raw, {"error": "too large", "status": 413})
        if not body.endswith(b"\n"):
            raise self.failed(400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
        lines = [json.loads(line) for line in body.splitlines()]
        if len(lines) % 2 or not all(len(order) == 1 for order in lines[::2]):
            raise self.failed(400, "illegal_argument_exception", "Malformed action/metadata line")
        items = [self.item(order, document) for order, document in zip(lines[::2], lines[1::2])]
        said = {"errors": any(item["status"] >= 300 for item in items), "took": 1,
                "items": [{"create": item} for item in items]}
        if dict(urllib.parse.parse_qsl(parts.query)).get("filter_path") == "errors,items.*.status,items.*.error":
            kept = lambda item: {key: item[key] for key in ("status", "error") if key in item}
            said = {"errors": said["errors"], "items": [{"create": kept(item)} for item in items]}
        return 200, said, self.always

    def item(self, order, document):
        (kind, about), = order.items()
        def fails(status, kind, reason):
            return {"_index": self.stream, "status": status, "error": {"type": kind, "reason": reason}}

        if about.get("_index") != self.stream:
            return fails(404, "index_not_found_exception", f"no such index [{about.get('_index')}]")
        if kind != "create":
            return fails(400, "illegal_argument_exception", "only op_type create is allowed in data streams")
        if "@timestamp" not in document:
            return fails(400, "document_parsing_exception", "data stream timestamp field [@timestamp] is missing")
        if self.poison and self.poison in json.dumps(document):
            return fails(400, "document_parsing_exception", "failed to parse")
        if self.busy_items:
            self.busy_items -= 1
            return fails(429, "es_rejected_execution_exception", "rejected execution of coordinating operation")
        name = about.get("_id") or secrets.token_hex(10)
        if name in self.documents:
            self.repeats += 1
            return fails(409, "version_conflict_engine_exception", "document already exists")
        self.documents[name] = document
        self.got.append(document)
        return {"_index": self.stream, "_id": name, "result": "created", "status": 201}


class Lake(Receiver):
    """Takes lines or arrays of JSON with a bearer token."""

    bytes_max = 1_000_000

    def __init__(self, certificate, token):
        super().__init__(certificate)
        self.token = token

    @staticmethod
    def number_of(event):
        return event.get("unmapped", {}).get("number", 0)

    def answer(self, _, path, headers, raw):
        self.fault()
        if headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, {"error": "no such token"})
        body = self.plain(headers, raw, {"error": "too large"})
        kind = headers.get_content_type()
        if kind == "application/x-ndjson":
            if not body.endswith(b"\n"):
                self.complaints.append("the last line does not end")
            events = [json.loads(line) for line in body.splitlines()]
        elif kind == "application/json":
            events = json.loads(body)
        else:
            raise Refusal(415, {"error": f"no such form: {kind}"})
        self.got.extend(events)
        return 200, {}, {}
