"""A small gRPC server of every kind of call, without generated code: messages are bytes as they are.

    Unary    one message comes back with its letters turned round
    Server   a number comes in, as many messages go out
    Client   messages come in, one with all of them goes out
    Both     each message is answered before the next one is awaited
    Fails    a status with a message that is not ASCII, with details and trailing metadata
    Late     sends its first message, then fails: the status comes after an answer has begun
    Slow     waits until its client gives up

Every answer has leading and trailing metadata, one of them binary.
"""

from concurrent import futures
import threading

import grpc

SERVICE = "checkgate.trial.Echo"
LEADING = (("x-leading", "one"), ("x-leading-bin", bytes(range(256))))
TRAILING = (("x-trailing", "two"), ("x-trailing-bin", b"\x00\xff"))
DETAILS = (("grpc-status-details-bin", b"\x08\x03\x12\x02no"),)
MESSAGE = "naïve ✓ 100%\nsecond line"
THREADS = 8


class Echo(grpc.GenericRpcHandler):
    """The service."""

    def __init__(self):
        self.given_up = threading.Event()
        self.methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Server": grpc.unary_stream_rpc_method_handler(self.server),
            "Client": grpc.stream_unary_rpc_method_handler(self.client),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
            "Late": grpc.unary_stream_rpc_method_handler(self.late),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
        }

    def service(self, call):
        service, _, method = call.method.removeprefix("/").partition("/")
        return self.methods.get(method) if service == SERVICE else None

    def unary(self, message, context):
        told(context)
        return message[::-1]

    def server(self, message, context):
        told(context)
        for number in range(int(message)):
            yield str(number).encode()

    def client(self, messages, context):
        told(context)
        return b"|".join(messages)

    def both(self, messages, context):
        told(context)
        for message in messages:
            yield message[::-1]

    def fails(self, message, context):
        context.send_initial_metadata(LEADING)
        context.set_trailing_metadata(TRAILING + DETAILS)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, MESSAGE)

    def late(self, message, context):
        context.set_trailing_metadata(TRAILING)
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "after the first message")

    def slow(self, message, context):
        context.add_callback(self.given_up.set)
        self.given_up.wait(timeout=60)
        return b""


def told(context):
    context.send_initial_metadata(LEADING)
    context.set_trailing_metadata(TRAILING)


def serve(address=None, credentials=None):
    """A running server on a free port of loopback in the clear, and at `address`, too, where one is given: over TLS where
    there are `credentials`. The server, its port in the clear, its port at `address`, and the service."""
    service = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((service,))
    clear, port = server.add_insecure_port("127.0.0.1:0"), None
    if credentials:
        port = server.add_secure_port(address, credentials)
    elif address:
        port = server.add_insecure_port(address)
    server.start()
    return server, clear, port, service
