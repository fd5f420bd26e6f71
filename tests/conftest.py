"""What all tests share: an environment without a screen, without analytics, and without the user's own stores."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("AUTO_OPEN_DASHBOARD", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
