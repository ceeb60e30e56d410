"""What serves a model that is attacked: a small server in this process, MLServer, or MLflow's own.

Each is made of a world and a folder and says on which port, at which path and in which protocol it answers, what a
question of one row is, and which numbers an answer to it holds. `path` and `protocol` are also what checkgate is told.
"""

import os
import pathlib
import subprocess
import sys
import threading

import joblib

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "real-parts"))
import mlserver_process  # noqa: E402
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


class MlServer(OpenInference):
    """Seldon's MLServer with its runtime for scikit-learn."""

    def __init__(self, world, folder):
        self.path = f"/v2/models/{world.name}/infer"
        self.outputs = ("predict_proba",) if world.classes else ("predict",)
        served = folder / "mlserver"
        served.mkdir()
        self.server = mlserver_process.MlServer(MLSERVER / "mlserver", served, world.name, world.model)
        self.port, self.stop = self.server.http_port, self.server.stop


class Mlflow:
    """`mlflow models serve`, which has one model and answers on /invocations."""

    path, protocol = "/invocations", "mlflow"

    def __init__(self, world, folder):
        self.port, self.log = free_port(), folder / "mlflow.log"
        kept, saved = folder / "model.joblib", folder / "mlflow"
        joblib.dump(world.model, kept)
        asked = "predict_proba" if world.classes else "predict"
        # Saved by the environment that serves it, which is the one that has MLflow.
        subprocess.run([MLFLOW / "python", "-W", "ignore", HERE / "mlflow" / "save.py", kept, saved, asked], check=True)
        environment = {"PATH": f"{MLFLOW}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [MLFLOW / "mlflow", "models", "serve", "--model-uri", saved, "--env-manager", "local",
                   "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_until(self.is_ready, "MLflow being ready")

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"MLflow ended:\n{self.log.read_text()}")
        return answers(self.port, "/ping")

    def stop(self):
        # The whole group: the server is a program below the one that was started.
        os.killpg(self.process.pid, 15)
        self.process.wait(timeout=60)

    def question(self, row):
        return {"inputs": [row]}

    def answer(self, content):
        prediction = content["predictions"][0]
        return prediction if isinstance(prediction, list) else [prediction]


KINDS = {"small": Small, "mlserver": MlServer, "mlflow": Mlflow}
