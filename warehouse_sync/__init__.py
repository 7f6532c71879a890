"""Sync warehouse models to Userpilot through its Import API."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("warehouse-sync")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
