"""The report on all experiments: one page that needs no network, its charts, and the tables of docs/experiments.md."""
