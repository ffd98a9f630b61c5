"""Dashboards, recording rules and alerts as data, and the generator of the files that Grafana and Prometheus read."""
