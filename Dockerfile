# Two images: `serve` answers, without torch; `train` reads, trains and schedules as well.
#
#   docker build --target serve --tag recsys-serve .
#   docker build --target train --tag recsys-train --build-arg CPU_INDEX=ADDRESS .
#   docker build --target train --tag recsys-train-cuda --build-arg LOCK=requirements-cuda.lock .
#
# Both run as user 10001 on a read-only root file system; /data is all they write to. Only the stages before hold pip.

# Another Debian with Python 3.11 and its venv module: --build-arg BASE=IMAGE
ARG BASE=debian-python
FROM python:3.11-slim-bookworm AS debian-python
# hadolint ignore=DL3006
FROM ${BASE} AS base


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_NO_DEPS=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/recsys
WORKDIR /source


# The libraries that answer. A library may hold files for a newer Python, which do not compile and are never loaded.
FROM build AS serve-libraries
COPY requirements-serve.lock ./
RUN /build/bin/pip --python /opt/recsys/bin/python install --only-binary :all: -r requirements-serve.lock \
    && { python3 -m compileall -qq --invalidation-mode unchecked-hash /opt/recsys || true; }


# The libraries that train. PyPI has torch for a GPU only; CPU_INDEX names PyTorch's own index of builds for a CPU.
FROM build AS train-libraries
ARG LOCK=requirements-cpu.lock
ARG CPU_INDEX=
COPY requirements-*.lock ./
RUN if [ "$LOCK" = requirements-cpu.lock ] && [ -n "$CPU_INDEX" ]; then export PIP_EXTRA_INDEX_URL="$CPU_INDEX"; fi \
    && /build/bin/pip --python /opt/recsys/bin/python install --only-binary :all: -r "$LOCK" \
    && { python3 -m compileall -qq --invalidation-mode unchecked-hash /opt/recsys || true; }


# The program, apart from its libraries: a new version of it alone is a small layer.
FROM build AS program
COPY requirements-cpu.lock ./
RUN grep '^setuptools==' requirements-cpu.lock > builder.lock && /build/bin/pip install -r builder.lock
COPY . ./
RUN /build/bin/pip wheel --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/recsys/bin/python install --no-index --prefix /program /wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /program


FROM base AS runtime
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="recsys" \
      org.opencontainers.image.description="A recommendation engine for a shop" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# tini is process 1: it passes signals on, and reaps what a killed training leaves. Debian keeps no earlier versions. The
# base may have pip of its own.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && if python3 -m pip --version > /dev/null 2>&1; then python3 -m pip uninstall --yes pip setuptools wheel; fi \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --no-create-home --home-dir /data --shell /usr/sbin/nologin recsys \
    && install --directory --owner recsys --group recsys /data
ENV PATH=/opt/recsys/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RECSYS_CONFIG=/data/recsys.toml
WORKDIR /data
VOLUME /data
USER 10001:10001
ENTRYPOINT ["tini", "--", "recsys"]


FROM runtime AS train
COPY --from=train-libraries /opt/recsys /opt/recsys
COPY --from=program /program /opt/recsys
# A wrong torch, torchrec or fbgemm-gpu ends the build here and not the first night. Their versions are compared; the
# CUDA build of fbgemm-gpu loads only where there is NVIDIA's driver, which a build does not have.
RUN ["python", "-c", "import torch, optuna, onnxruntime, faiss, jobs.cli; from recsys.training import libraries; libraries.check_installed()"]
CMD ["schedule"]


FROM runtime AS serve
COPY --from=serve-libraries /opt/recsys /opt/recsys
COPY --from=program /program /opt/recsys
RUN ["python", "-c", "import api.app, jobs.cli"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v1/health/live', timeout=4)"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
