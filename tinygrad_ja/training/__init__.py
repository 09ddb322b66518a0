"""What stands around a model while it trains: the loop, logs, learning curves, metrics, and the table of its layers."""

from . import metrics
from .curves import pyplot, save_curve, save_curves
from .evaluation import evaluate
from .experiment import Experiment, Option, Result
from .logs import CSVLog, JSONLog, TensorBoardLog
from .probe import Probe, linear_probe
from .report import Report
from .stopping import EarlyStopping
from .summary import Summary, summary
from .trainer import Trainer
from .update import Update

__all__ = [
    "CSVLog",
    "EarlyStopping",
    "Experiment",
    "JSONLog",
    "Option",
    "Probe",
    "Report",
    "Result",
    "Summary",
    "TensorBoardLog",
    "Trainer",
    "Update",
    "evaluate",
    "linear_probe",
    "metrics",
    "pyplot",
    "save_curve",
    "save_curves",
    "summary",
]
