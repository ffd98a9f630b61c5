# The image holds a virtual environment and nothing to build with. Its packages are those of requirements/run.lock, by hash.
ARG PYTHON=3.13.5-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN ["python", "-m", "venv", "/opt/managed-agents-exporter"]
# Before the source, so that a change of it does not install everything anew.
COPY requirements/run.lock requirements/run.lock
RUN ["/opt/managed-agents-exporter/bin/pip", "install", "--no-deps", "--require-hashes", "--requirement=requirements/run.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN ["/opt/managed-agents-exporter/bin/pip", "install", "--no-deps", "."]
# Compiled here, because the root file system is read-only where the image runs.
RUN ["/opt/managed-agents-exporter/bin/python", "-m", "compileall", "-q", "/opt/managed-agents-exporter/lib"]

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="managed-agents-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the work queues of Claude Managed Agents" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/managed-agents-exporter /opt/managed-agents-exporter
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 9831
# No HEALTHCHECK: with TLS or basic auth it could not ask, and an orchestrator asks /-/healthy and /-/ready itself.
ENTRYPOINT ["/opt/managed-agents-exporter/bin/managed-agents-exporter"]
