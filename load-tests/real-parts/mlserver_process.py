"""Seldon's MLServer with one model of scikit-learn, as a process of its own."""

import json
import os
import subprocess

import joblib
from harness import answers, free_port, wait_until


class MlServer:
    """`program` is mlserver; `model` is what it serves as `name`, from `folder`, by its runtime for scikit-learn."""

    def __init__(self, program, folder, name, model):
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log = folder / "mlserver.log"
        kept = folder / name
        kept.mkdir()
        joblib.dump(model, kept / "model.joblib")
        settings = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
        settings["parameters"] = {"uri": "./model.joblib", "version": "v1"}
        (kept / "model-settings.json").write_text(json.dumps(settings))
        environment = {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": str(self.http_port),
            "MLSERVER_GRPC_PORT": str(self.grpc_port),
            "MLSERVER_METRICS_PORT": str(free_port()),
            "MLSERVER_PARALLEL_WORKERS": "0",
        }
        self.process = subprocess.Popen(
            [program, "start", folder], env={**os.environ, **environment}, stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        wait_until(self.is_ready, "MLServer being ready")

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"MLServer ended:\n{self.log.read_text()}")
        return answers(self.http_port, "/v2/health/ready")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
