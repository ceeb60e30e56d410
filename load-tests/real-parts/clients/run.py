"""Real clients against a real model server, through the real binary; exit code 1 where anything differs.

MLServer serves a scikit-learn model over HTTP and gRPC, and a small gRPC server knows every kind of call. tritonclient,
grpc, curl and nghttp ask each of them twice: at the server itself and through checkgate, in the clear and over TLS. What
a client sees through checkgate must be what it sees without it.
"""

import argparse
import contextlib
import json
import pathlib
import queue
import re
import subprocess
import sys
import tempfile
import time

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import echo_server  # noqa: E402
import model_server  # noqa: E402
from harness import Proxy, Tally  # noqa: E402
from mlserver_process import MlServer  # noqa: E402

CERTIFICATES = pathlib.Path(__file__).resolve().parents[3] / "config/examples/certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
CLIENT = (CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
CALL_SECONDS = 20
ROWS = 3
# Two flow-control windows of gRPC and more; below what a gRPC client takes as one message.
LARGE_BYTES = 3_000_000


class Servers:
    """MLServer with a model of digits, and the gRPC server of every kind of call."""

    def __init__(self, folder):
        _, self.rows, _, _ = model_server.digits()
        program = pathlib.Path(sys.executable).with_name("mlserver")
        self.mlserver = MlServer(program, folder, "digits", model_server.classifier())
        self.http_port, self.grpc_port = self.mlserver.http_port, self.mlserver.grpc_port
        self.echo, self.echo_port, _, self.service = echo_server.serve()

    def stop(self):
        self.mlserver.stop()
        self.echo.stop(grace=None)


def configuration(servers, **more):
    """checkgate in front of all three ports; gRPC services are claimed by their paths."""

    def http2(name, path, port):
        servers = [f"http://127.0.0.1:{port}"]
        return {"name": name, "path": path, "upstream": {"servers": servers, "http": "http2"}}

    return {
        "upstream": f"http://127.0.0.1:{servers.http_port}",
        "models": [
            http2("grpc", "/inference.GRPCInferenceService", servers.grpc_port),
            http2("echo", f"/{echo_server.SERVICE}", servers.echo_port),
        ],
        **more,
    }


def start(binary, folder, settings, listen=None):
    folder.mkdir()
    file = folder / "checkgate.yaml"
    file.write_text(json.dumps(settings))
    return Proxy(binary, folder, ["--config", file], listen)


class Same:
    """Asks twice, at the server and through checkgate, and holds one against the other."""

    def __init__(self, tally):
        self.tally = tally

    def check(self, text, ask, direct, proxied):
        """`ask` gets an address or a channel and returns what a client sees."""
        try:
            expected = ask(direct)
        except Exception as error:  # noqa: BLE001: whatever goes wrong must fail this check and no other
            self.tally.check(False, f"{text}: the server itself: {told(error)}")
            return
        try:
            seen = ask(proxied)
        except Exception as error:  # noqa: BLE001
            self.tally.check(False, f"{text}: {told(error)}")
            return
        difference = "" if seen == expected else f": {short(seen)} through checkgate, {short(expected)} without"
        self.tally.check(seen == expected, text + difference)


def told(error):
    return short(f"{type(error).__name__}: {error}")


def short(value):
    return re.sub(r"\s+", " ", str(value))[:300]


# tritonclient over HTTP. MLServer refuses the extension for binary tensors, so tensors travel as JSON.


def http_client(address, **more):
    return contextlib.closing(
        tritonclient.http.InferenceServerClient(
            address, connection_timeout=CALL_SECONDS, network_timeout=CALL_SECONDS, **more
        )
    )


def http_facts(address, **more):
    with http_client(address, **more) as client:
        return (
            client.is_server_live(), client.is_server_ready(), client.is_model_ready("digits"),
            client.get_server_metadata(), client.get_model_metadata("digits"),
        )


def http_infer(rows, address, output="predict", **more):
    tensor = tritonclient.http.InferInput("input-0", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows, binary_data=False)
    outputs = [tritonclient.http.InferRequestedOutput(output, binary_data=False)]
    with http_client(address, **more) as client:
        return client.infer("digits", [tensor], outputs=outputs, request_id="one").as_numpy(output).tolist()


def http_unknown_model(address, **more):
    with http_client(address, **more) as client:
        try:
            client.get_model_metadata("absent")
        except tritonclient.utils.InferenceServerException as error:
            return error.status(), error.message()
    return "no error"


def check_triton_http(same, servers, proxied, name, **more):
    rows, direct = servers.rows[:ROWS], f"127.0.0.1:{servers.http_port}"
    asks = {
        "health and metadata": http_facts,
        f"{ROWS} rows": lambda address, **more: http_infer(rows, address, **more),
        "600 rows": lambda address, **more: http_infer(servers.rows[:600], address, **more),
        "an unknown model": http_unknown_model,
    }
    for what, ask in asks.items():
        through = lambda address, ask=ask: ask(address, **(more if address == proxied else {}))  # noqa: E731
        same.check(f"tritonclient over HTTP, {name}: {what}", through, direct, proxied)


# tritonclient over gRPC.


def grpc_client(address, more):
    return contextlib.closing(tritonclient.grpc.InferenceServerClient(address, **more))


def grpc_facts(address, more):
    with grpc_client(address, more) as client:
        timeout = {"client_timeout": CALL_SECONDS}
        return (
            client.is_server_live(**timeout), client.is_server_ready(**timeout),
            client.is_model_ready("digits", **timeout),
            client.get_server_metadata(as_json=True, **timeout),
            client.get_model_metadata("digits", as_json=True, **timeout),
        )


def grpc_infer(rows, address, more):
    tensor = tritonclient.grpc.InferInput("input-0", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows)
    with grpc_client(address, more) as client:
        answer = client.infer("digits", [tensor], request_id="one", client_timeout=CALL_SECONDS)
        return answer.get_response(as_json=True)


def grpc_unknown_model(address, more):
    with grpc_client(address, more) as client:
        try:
            client.get_model_metadata("absent", client_timeout=CALL_SECONDS)
        except tritonclient.utils.InferenceServerException as error:
            return error.status(), error.message()
    return "no error"


def check_triton_grpc(same, servers, proxied, name, **more):
    direct = f"127.0.0.1:{servers.grpc_port}"
    asks = {
        "health and metadata": grpc_facts,
        f"{ROWS} rows": lambda address, more: grpc_infer(servers.rows[:ROWS], address, more),
        "600 rows": lambda address, more: grpc_infer(servers.rows[:600], address, more),
        "the status of an unknown model": grpc_unknown_model,
    }
    for what, ask in asks.items():
        through = lambda address, ask=ask: ask(address, more if address == proxied else {})  # noqa: E731
        same.check(f"tritonclient over gRPC, {name}: {what}", through, direct, proxied)


# grpc in Python, every kind of call.


def metadata(pairs):
    """Metadata that the server set; HTTP's own headers and checkgate's differ on purpose."""
    return sorted((key, value) for key, value in pairs or () if key.startswith("x-") and "checkgate" not in key)


def outcome(call):
    """What is left of a call when its messages are read."""
    return call.code().name, call.details(), metadata(call.initial_metadata()), metadata(call.trailing_metadata())


def method(channel, kind, name):
    return getattr(channel, kind)(f"/{echo_server.SERVICE}/{name}")


def unary(message):
    def ask(channel):
        answer, call = method(channel, "unary_unary", "Unary").with_call(message, timeout=CALL_SECONDS)
        return answer, outcome(call)

    return ask


def server_stream(channel):
    call = method(channel, "unary_stream", "Server")(b"500", timeout=CALL_SECONDS)
    return list(call), outcome(call)


def client_stream(channel):
    messages = (str(number).encode() for number in range(500))
    answer, call = method(channel, "stream_unary", "Client").with_call(messages, timeout=CALL_SECONDS)
    return answer, outcome(call)


def both_streams(channel):
    """Ping-pong: a message is sent once the answer to the one before is there, so nothing may wait for the end."""
    questions = queue.SimpleQueue()
    call = method(channel, "stream_stream", "Both")(iter(questions.get, None), timeout=CALL_SECONDS)
    seen = []
    for number in range(50):
        questions.put(f"message {number}".encode())
        seen.append(next(call))
    questions.put(None)
    return seen, list(call), outcome(call)


def failure(name, kind):
    def ask(channel):
        call = method(channel, kind, name)
        try:
            messages = [call(b"", timeout=CALL_SECONDS)] if kind == "unary_unary" else list_until_error(call)
        except grpc.RpcError as error:
            details = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
            return outcome(error), details
        return messages

    return ask


def list_until_error(call):
    stream, messages = call(b"", timeout=CALL_SECONDS), []
    try:
        messages.extend(stream)
    except grpc.RpcError:
        return messages, outcome(stream)
    return messages


def unknown_method(channel):
    try:
        method(channel, "unary_unary", "Absent")(b"", timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "no error"


def large_stream(channel):
    """Large messages both ways: windows must be opened again on both sides."""
    messages = [bytes([number]) * LARGE_BYTES for number in range(4)]
    call = method(channel, "stream_stream", "Both")(iter(messages), timeout=CALL_SECONDS)
    return [len(message) for message in call], call.code().name


def many_at_once(channel):
    calls = [method(channel, "unary_unary", "Unary").future(str(n).encode(), timeout=CALL_SECONDS) for n in range(64)]
    return [call.result() for call in calls]


def deadline(service):
    """A client that gives up: it sees its deadline, and the server sees that it is gone."""

    def ask(channel):
        service.given_up.clear()
        try:
            method(channel, "unary_unary", "Slow")(b"", timeout=2)
        except grpc.RpcError as error:
            return error.code().name, service.given_up.wait(timeout=CALL_SECONDS)
        return "no error"

    return ask


def check_grpc(same, echo_port, service, channel, name):
    asks = {
        "unary": unary(b"hello"),
        "an empty message": unary(b""),
        f"a message of {LARGE_BYTES} bytes": unary(b"x" * LARGE_BYTES),
        "server stream": server_stream,
        "client stream": client_stream,
        "both streams, one answer at a time": both_streams,
        "both streams, large messages": large_stream,
        "64 calls at once": many_at_once,
        "an error with details and trailing metadata": failure("Fails", "unary_unary"),
        "an error after the first message": failure("Late", "unary_stream"),
        "an unknown method": unknown_method,
        "a deadline reaches the server": deadline(service),
    }
    with grpc.insecure_channel(f"127.0.0.1:{echo_port}") as direct:
        for what, ask in asks.items():
            same.check(f"grpc in Python, {name}: {what}", ask, direct, channel)


# curl and nghttp.


def command(*arguments, body=None):
    done = subprocess.run(
        [str(argument) for argument in arguments], input=body, capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def question(rows):
    tensor = {"name": "input-0", "datatype": "FP64", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return json.dumps({"id": "one", "inputs": [tensor]}).encode()


def curl(body, url, *arguments):
    """Exit code, version of HTTP, status and the predictions in the answer."""
    code, out, error = command(
        "curl", "--silent", "--show-error", "--max-time", CALL_SECONDS, "--data-binary", "@-",
        "--header", "content-type: application/json", "--write-out", "\n%{http_version} %{http_code}", *arguments, url,
        body=body,
    )
    answer, _, end = out.rpartition(b"\n")
    version, _, status = end.decode().partition(" ")
    try:
        return code, version, status, json.loads(answer)["outputs"][0]["data"]
    except (ValueError, LookupError, TypeError):
        return code, version, status, short((answer + error).decode(errors="replace"))


def check_curl(tally, servers, proxy, scheme, cases, *arguments):
    path = "/v2/models/digits/infer"
    small, large = question(servers.rows[:ROWS]), question(servers.rows[:899])
    url = f"{scheme}://localhost:{proxy.port}{path}"
    for flags, version in cases:
        for body, what in ((small, f"{ROWS} rows"), (large, f"{len(large)} bytes")):
            expected = curl(body, f"http://127.0.0.1:{servers.http_port}{path}")[3]
            seen = curl(body, url, "--ipv4", *flags, *arguments)
            held = seen == (0, version, "200", expected)
            name = " ".join(flags)
            tally.check(held, f"curl {name} {scheme}: HTTP/{version}, {what}" + ("" if held else f": {short(seen)}"))


def check_upgrade(tally, servers, proxy):
    """`curl --http2` in the clear asks for an upgrade, which is never granted."""
    code, version, status, seen = curl(
        question(servers.rows[:ROWS]), f"http://127.0.0.1:{proxy.port}/v2/models/digits/infer", "--http2"
    )
    held = code == 0 and version == "1.1" and (status == "200" or status.startswith(("4", "501")))
    tally.check(held, f"curl --http2 http: the upgrade is not granted, {status} over HTTP/{version} with exit {code}")


def check_nghttp(tally, servers, folder, proxy, scheme):
    body = folder / "question.json"
    body.write_bytes(question(servers.rows[:ROWS]))
    url = f"{scheme}://127.0.0.1:{proxy.port}/v2/models/digits/infer"
    code, out, error = command(
        "nghttp", "--verbose", "--no-dep", "--timeout", CALL_SECONDS, "--data", body,
        "--header", "content-type: application/json", "--multiply", "10", url,
    )
    text = out.decode(errors="replace")
    statuses = re.findall(r":status: (\d+)", text)
    agreed = scheme == "http" or "The negotiated protocol: h2" in text
    held = code == 0 and statuses == ["200"] * 10 and agreed
    tally.check(held, f"nghttp {scheme}: ten questions on one connection: {short(statuses or error.decode())}")


# The two ways in.


def check_plain(tally, binary, folder, servers):
    proxy = start(binary, folder / "plain", configuration(servers))
    try:
        same, address = Same(tally), f"127.0.0.1:{proxy.port}"
        check_triton_http(same, servers, address, "in the clear")
        waits = ["--http1.1", "--header", "Expect: 100-continue"]
        cases = [(["--http1.1"], "1.1"), (waits, "1.1"), (["--http2-prior-knowledge"], "2")]
        check_curl(tally, servers, proxy, "http", cases)
        check_upgrade(tally, servers, proxy)
        check_nghttp(tally, servers, folder, proxy, "http")
        check_triton_grpc(same, servers, address, "in the clear")
        with grpc.insecure_channel(address) as channel:
            check_grpc(same, servers.echo_port, servers.service, channel, "in the clear")
        check_seen(tally, proxy)
    finally:
        tally.check(proxy.stop() == 0, "checkgate in the clear ended with 0")


def check_seen(tally, proxy):
    """The traffic was looked into, not only let through."""
    models = json.loads(proxy.ask_admin("/v1/status"))["models"]
    digits = [model for model in models if model["name"] == "digits"]
    tally.check(digits and digits[0]["clients"] > 0, "checkgate found the model digits and its clients in the traffic")
    rows = re.search(r'^checkgate_rows_total\{model="grpc"\} (\d+)', proxy.ask_admin("/metrics"), re.MULTILINE)
    tally.check(rows and int(rows[1]) > ROWS, f"checkgate read rows out of calls over gRPC: {rows and rows[1]}")


def check_degraded(tally, binary, folder, servers):
    """A degraded client reads its answers as before, coarse and in their turn; beyond that it is told in its own words."""
    policy = {"delay": "200ms", "step_rows": 2, "delay_max": "2s"}
    proxy = start(binary, folder / "degraded", configuration(servers, mode="enforce", policy=policy))
    direct, through = f"127.0.0.1:{servers.http_port}", f"127.0.0.1:{proxy.port}"
    try:
        proxy.decide("127.0.0.1", "degrade")
        began = time.monotonic()
        whole, coarse = (np.array(http_infer(servers.rows[:ROWS], at, "predict_proba")) for at in (direct, through))
        same_class = (whole.argmax(axis=1) == coarse.argmax(axis=1)).all()
        few = all(len(set(row)) <= 2 for row in coarse)
        tally.check(same_class and few and np.allclose(coarse.sum(axis=1), 1) and not np.allclose(whole, coarse),
                    f"tritonclient over HTTP, degraded: the best class alone, of probabilities: {short(coarse.tolist())}")
        tally.check(time.monotonic() - began >= 0.8, f"tritonclient over HTTP, degraded: {ROWS} rows in their turn")
        same, grpc_direct = Same(tally), f"127.0.0.1:{servers.grpc_port}"
        asks = lambda address: grpc_infer(servers.rows[:ROWS], address, {})  # noqa: E731
        same.check("tritonclient over gRPC, degraded: labels", asks, grpc_direct, through)
        labels = lambda address: http_infer(servers.rows[:600], address)  # noqa: E731
        same.check("tritonclient over HTTP, degraded: 600 labels", labels, direct, through)
        for name, ask in ("HTTP", labels), ("gRPC", asks):
            try:
                seen = short(ask(through))
            except tritonclient.utils.InferenceServerException as error:
                seen = error.status()
            expected = {"HTTP": "429", "gRPC": "StatusCode.RESOURCE_EXHAUSTED"}[name]
            tally.check(seen == expected, f"tritonclient over {name}, degraded, while rows are owed: {seen}")
    finally:
        tally.check(proxy.stop() == 0, "checkgate that degrades ended with 0")


def check_contract(tally, binary, folder, servers):
    """An answer over gRPC that breaks its contract never leaves; the client is told in gRPC's words."""

    def seen(minimum):
        settings = configuration(servers)
        rules = {"rules": [{"output": "predict", "minimum": minimum}], "on_violation": "refuse"}
        settings["models"][0].update(mode="enforce", hold="answer", contract=rules)
        proxy = start(binary, folder / f"contract-{minimum}", settings)
        try:
            grpc_infer(servers.rows[:ROWS], f"127.0.0.1:{proxy.port}", {})
        except tritonclient.utils.InferenceServerException as error:
            return error.status()
        finally:
            proxy.stop()
        return "answered"

    tally.check(seen(0) == "answered", "tritonclient over gRPC: an answer that keeps its contract is delivered")
    told = seen(100)
    tally.check(told.startswith("StatusCode."), f"tritonclient over gRPC: one that breaks it is withheld, {told}")


def tls_settings(**more):
    server = {"certificate": str(CERTIFICATES / "server.pem"), "key": str(CERTIFICATES / "server.key")}
    return {**server, **more}


def credentials(authority=AUTHORITY, client=None):
    certificate, key = (file.read_bytes() for file in client) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.read_bytes(), key, certificate)


def check_tls(tally, binary, folder, servers):
    proxy = start(binary, folder / "tls", configuration(servers, tls=tls_settings()))
    try:
        same, address = Same(tally), f"localhost:{proxy.port}"
        cases = [(["--http1.1"], "1.1"), (["--http2"], "2"), (["--http2", "--tls-max", "1.2"], "2")]
        check_curl(tally, servers, proxy, "https", cases, "--cacert", AUTHORITY)
        check_nghttp(tally, servers, folder, proxy, "https")
        check_triton_http(
            same, servers, address, "TLS", ssl=True, ssl_options={"ca_certs": str(AUTHORITY)}, insecure=False
        )
        check_triton_grpc(same, servers, address, "TLS", ssl=True, root_certificates=str(AUTHORITY))
        with grpc.secure_channel(address, credentials()) as channel:
            check_grpc(same, servers.echo_port, servers.service, channel, "TLS")
        code = curl(b"{}", f"https://localhost:{proxy.port}/", "--ipv4")[0]
        tally.check(code == 60, f"curl without the authority refuses the certificate, exit {code}")
        check_old_tls(tally, proxy)
    finally:
        tally.check(proxy.stop() == 0, "checkgate with TLS ended with 0")


def check_old_tls(tally, proxy):
    arguments = ("--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "--cacert", AUTHORITY, "--ipv4")
    code, _, _, said = curl(b"{}", f"https://localhost:{proxy.port}/", *arguments)
    # An alert is what the other side sends; what curl itself will not do has other words.
    held = code == 35 and " alert " in said
    tally.check(held, f"curl with TLS 1.1 is refused in the handshake: {said}")


def check_mutual_tls(tally, binary, folder, servers):
    settings = configuration(servers, tls=tls_settings(client_ca=str(AUTHORITY)), clients={"identity": "certificate"})
    proxy = start(binary, folder / "mutual-tls", settings)
    try:
        url = f"https://localhost:{proxy.port}/v2/health/ready"
        shown = ("--cert", CLIENT[0], "--key", CLIENT[1])
        common = ("curl", "--silent", "--max-time", CALL_SECONDS, "--ipv4", "--cacert", AUTHORITY)
        for flags in ("--http1.1", "--http2"):
            code, _, _ = command(*common, "--fail", flags, *shown, url)
            tally.check(code == 0, f"curl {flags} with a client certificate is served, exit {code}")
            code, out, _ = command(*common, flags, url)
            tally.check(code != 0 and not out, f"curl {flags} without one is refused, exit {code}")
        same = Same(tally)
        with grpc.secure_channel(f"localhost:{proxy.port}", credentials(client=CLIENT)) as channel:
            with grpc.insecure_channel(f"127.0.0.1:{servers.echo_port}") as direct:
                same.check("grpc in Python with a client certificate: unary", unary(b"hello"), direct, channel)
        with grpc.secure_channel(f"localhost:{proxy.port}", credentials()) as channel:
            try:
                unary(b"hello")(channel)
                seen = "OK"
            except grpc.RpcError as error:
                seen = error.code().name
            tally.check(seen == "UNAVAILABLE", f"grpc in Python without one is refused: {seen}")
    finally:
        tally.check(proxy.stop() == 0, "checkgate with mutual TLS ended with 0")


@contextlib.contextmanager
def echo_at(address, credentials=None):
    """A gRPC server at `address`: its port in the clear, its port there, and the service."""
    server, clear, port, service = echo_server.serve(address, credentials)
    try:
        yield clear, port, service
    finally:
        server.stop(grace=None)


def check_upstream_tls(tally, binary, folder, _):
    """The server shows a certificate and asks for one; checkgate verifies it, and shows its own."""
    pair = ((CERTIFICATES / "server.key").read_bytes(), (CERTIFICATES / "server.pem").read_bytes())
    wanted = grpc.ssl_server_credentials([pair], AUTHORITY.read_bytes(), require_client_auth=True)
    shown = {"certificate": str(CLIENT[0]), "key": str(CLIENT[1])}
    with echo_at("127.0.0.1:0", wanted) as (clear, port, service):
        believed = {"ca": str(AUTHORITY), **shown}
        cases = (
            ("with all that it takes", {"tls": believed}, None),
            ("without a certificate", {"tls": {"ca": str(AUTHORITY)}}, "UNAVAILABLE"),
            ("without the authority", {"tls": shown}, "UNAVAILABLE"),
            ("for another name", {"tls": {**believed, "server_name": "other.example"}}, "UNAVAILABLE"),
            ("that believes everybody", {"tls": {**shown, "insecure": True}}, None),
        )
        for number, (what, more, refused) in enumerate(cases):
            upstream = {"servers": [f"https://localhost:{port}"], "http": "http2", **more}
            proxy = start(binary, folder / f"upstream-tls-{number}", {"upstream": upstream})
            try:
                with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
                    check_refused_or_same(tally, clear, service, channel, f"TLS to the server, {what}", refused)
            finally:
                proxy.stop()


def check_refused_or_same(tally, clear, service, channel, name, refused):
    if refused is None:
        check_grpc(Same(tally), clear, service, channel, name)
        return
    try:
        unary(b"hello")(channel)
        seen = "OK"
    except grpc.RpcError as error:
        seen = error.code().name
    tally.check(seen == refused, f"grpc in Python, {name}: {seen}")


def check_unix_sockets(tally, binary, folder, servers):
    """Unix sockets on both sides."""
    behind, before = folder / "model.sock", folder / "in.sock"
    with echo_at(f"unix:{behind}") as (clear, _, service):
        settings = configuration(servers)
        settings["models"][1]["upstream"] = {"servers": [f"unix:{behind}"], "http": "http2"}
        proxy = start(binary, folder / "unix", settings, f"unix:{before}")
        try:
            # Left alone, grpc writes the socket's path into :authority, percent-encoded, which the h2 crate refuses.
            options = [("grpc.default_authority", "localhost")]
            with grpc.insecure_channel(f"unix:{before}", options=options) as channel:
                check_grpc(Same(tally), clear, service, channel, "unix sockets on both sides")
            body = question(servers.rows[:ROWS])
            path = "/v2/models/digits/infer"
            expected = curl(body, f"http://127.0.0.1:{servers.http_port}{path}")[3]
            seen = curl(body, f"http://localhost{path}", "--unix-socket", before)
            tally.check(seen == (0, "1.1", "200", expected), f"curl at a unix socket: {short(seen)}")
        finally:
            tally.check(proxy.stop() == 0, "checkgate at a unix socket ended with 0")


CHECKS = (check_plain, check_degraded, check_contract, check_tls, check_mutual_tls, check_upstream_tls, check_unix_sockets)


def run(binary):
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        models = folder / "models"
        models.mkdir()
        servers = Servers(models)
        try:
            for checks in CHECKS:
                try:
                    checks(tally, binary, folder, servers)
                except (Exception, SystemExit) as error:  # noqa: BLE001: the other ways in are tried all the same
                    tally.check(False, f"{checks.__name__}: {told(error)}")
        finally:
            servers.stop()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the checkgate binary")
    sys.exit(run(parser.parse_args().binary))
