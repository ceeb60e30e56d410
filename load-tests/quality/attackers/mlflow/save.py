"""python save.py MODEL FOLDER METHOD: a model that joblib kept, as MLflow serves it; METHOD is what a question calls."""

import sys

import joblib
import mlflow.sklearn

kept, folder, method = sys.argv[1:]
mlflow.sklearn.save_model(
    joblib.load(kept), folder, pyfunc_predict_fn=method, pip_requirements=["mlflow"],
    # The model is of this very run. The other format refuses types that it does not know, a network's optimiser for one.
    serialization_format="cloudpickle",
)
