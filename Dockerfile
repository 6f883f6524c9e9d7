# The same installation as `make install`, in an image. Run it on a workspace: a clone, or a folder with a params.yaml.
#
#   docker build -t goku .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" goku run
#   docker build -t goku:cuda --build-arg TORCH_BACKEND=auto .      # then: docker run --gpus all ...
#
# Build arguments:
#   BASE_IMAGE     a Debian-like image with Python 3.11 or 3.12; name it by digest where images must be reproducible
#   TORCH_BACKEND  which build of torch: cpu, auto (by the driver of the building machine), or a CUDA version as uv
#                  names it, like cu130; empty: what the package registry has. The CUDA builds bring their libraries,
#                  the host lends the driver, so the base image needs no CUDA.
#   EXTRAS         optional parts of pyproject.toml: serve, team, kubernetes, kuberay, cluster, credentials, dev, gpu (comma
#                  separated). `gpu` compiles flash-attn and needs a CUDA development image with Python as BASE_IMAGE.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
ARG TORCH_BACKEND=cpu
ARG EXTRAS=""

ENV PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PATH=/opt/goku/.venv/bin:$PATH

# git: the lineage records the commit of a workspace. libgomp1: OpenMP, which slim images lack.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/goku
COPY pyproject.toml constraints.txt README.md prefect.yaml ./
COPY goku_core goku_core
COPY flows flows
COPY params params

RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir -q uv \
    && if [ -n "${TORCH_BACKEND}" ]; then export UV_TORCH_BACKEND="${TORCH_BACKEND}"; fi \
    && .venv/bin/uv pip install --no-cache --compile-bytecode --python .venv/bin/python \
       -c constraints.txt -e ".${EXTRAS:+[${EXTRAS}]}" \
    && .venv/bin/pip check

COPY infra/with-secrets /usr/local/bin/with-secrets

# Anybody may run it (docker run --user); a user without a name has no home, so caches go to /tmp.
# /spool (what a server receives) and /var/lib/prefect: a volume that is mounted there takes over the folder's mode, so that
# whoever the container runs as may write there.
RUN useradd --create-home --uid 1000 goku && mkdir /work && chown goku:goku /work && install -d -m 1777 /spool /var/lib/prefect
USER goku
WORKDIR /work
# Of a container that works: its command answers. Servers of compose.yaml and of a cluster have their own.
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["goku", "--version"]
ENTRYPOINT ["goku"]
CMD ["--help"]
