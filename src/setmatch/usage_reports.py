"""Libraries that setmatch uses send no reports about their use, unless the user wants them to."""

import os

# By library: the environment variable that it reads when it is imported or started, and the value
# that turns its reports off. Those of gradio are sent by trackio's client.
SWITCHES = {
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
    "nncf": ("NNCF_CI", "1"),
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
    "trackio": ("GRADIO_ANALYTICS_ENABLED", "False"),
    "wandb": ("WANDB_ERROR_REPORTING", "false"),
}


def turn_off_reports(library: str) -> None:
    """Turn off the reports of a library, before it is imported; others have none.

    A variable that is set already stays as it is.
    """
    if library in SWITCHES:
        os.environ.setdefault(*SWITCHES[library])
