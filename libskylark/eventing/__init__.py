"""Knative Eventing's contract on one node: brokers, triggers, dead letters and ping sources over one Redis."""

from __future__ import annotations
