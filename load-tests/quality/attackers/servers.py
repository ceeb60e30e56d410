"""What serves a model that is attacked: a small server in this process, MLServer, or MLflow's own.

Each is made of a world and a folder and says on which port, at which path and in which protocol it answers, what a
question of one row is, and which numbers an answer to it holds. `path` and `protocol` are also what checkgate is told.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading

import joblib

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "real-parts"))
import model_server  # noqa: E402
from harness import answers, free_port, wait_until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MLSERVER = HERE.parents[1] / "real-parts" / "clients" / ".venv" / "bin"
MLFLOW = HERE / "mlflow" / ".venv" / "bin"


class OpenInference:
    """The protocol that the small server and MLServer speak."""

    protocol = "oip_v2"
    # Names of outputs to ask for; none asks for whatever the server answers with.
    outputs = ()

    def question(self, row):
        tensor = {"name": "input", "datatype": "FP64", "shape": [1, len(row)], "data": row}
        asked = {"outputs": [{"name": name} for name in self.outputs]} if self.outputs else {}
        return {"inputs": [tensor], **asked}

    def answer(self, content):
        return content["outputs"][0]["data"]


class Small(OpenInference):
    """The server of these tests, in this process."""

    def __init__(self, world, folder):
        self.path = f"/v2/models/{world.name}/infer"
        model_server.Handler.models = {world.name: world.predict}
        self.server = model_server.ThreadingHTTPServer(("127.0.0.1", 0), model_server.Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


class Started:
    """A server that is a program of its own."""

    def start(self, name, command, log, environment, ready):
        self.name, self.log = name, log
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log.open("w"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_until(lambda: self.is_ready(ready), f"{name} being ready")

    def is_ready(self, path):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended:\n{self.log.read_text()}")
        return answers(self.port, path)

    def stop(self):
        # The whole group: MLflow starts its server as a program below another one.
        os.killpg(self.process.pid, 15)
        self.process.wait(timeout=60)


class MlServer(Started, OpenInference):
    """Seldon's MLServer with its runtime for scikit-learn."""

    def __init__(self, world, folder):
        self.path, self.port = f"/v2/models/{world.name}/infer", free_port()
        self.outputs = ("predict_proba",) if world.classes else ("predict",)
        model = folder / "mlserver"
        model.mkdir()
        joblib.dump(world.model, model / "model.joblib")
        settings = {
            "name": world.name, "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib", "version": "v1"},
        }
        (model / "model-settings.json").write_text(json.dumps(settings))
        environment = {
            "MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": str(self.port), "MLSERVER_GRPC_PORT": str(free_port()),
            "MLSERVER_METRICS_PORT": str(free_port()), "MLSERVER_PARALLEL_WORKERS": "0",
        }
        command = [MLSERVER / "mlserver", "start", model]
        self.start("MLServer", command, folder / "mlserver.log", environment, "/v2/health/ready")


class Mlflow(Started):
    """`mlflow models serve`, which has one model and answers on /invocations."""

    path, protocol = "/invocations", "mlflow"

    def __init__(self, world, folder):
        self.port = free_port()
        kept, saved = folder / "model.joblib", folder / "mlflow"
        joblib.dump(world.model, kept)
        asked = "predict_proba" if world.classes else "predict"
        # Saved by the environment that serves it, which is the one that has MLflow.
        subprocess.run([MLFLOW / "python", "-W", "ignore", HERE / "mlflow" / "save.py", kept, saved, asked], check=True)
        environment = {"PATH": f"{MLFLOW}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [MLFLOW / "mlflow", "models", "serve", "--model-uri", saved, "--env-manager", "local",
                   "--host", "127.0.0.1", "--port", str(self.port)]
        self.start("MLflow", command, folder / "mlflow.log", environment, "/ping")

    def question(self, row):
        return {"inputs": [row]}

    def answer(self, content):
        prediction = content["predictions"][0]
        return prediction if isinstance(prediction, list) else [prediction]


KINDS = {"small": Small, "mlserver": MlServer, "mlflow": Mlflow}
