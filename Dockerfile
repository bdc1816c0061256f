# Default target: the serving image, without torch, carrying a sample release and catalogue, so that a bare
# `docker run -p 8000:8000` answers /search. Other targets: torchscript (the other engine), load (Locust).

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /app

# ---- what answers a search, and nothing else
FROM base AS dependencies
COPY pyproject.toml constraints.txt ./
COPY deploy/requirements.py deploy/
RUN python -m venv --without-pip /opt/venv \
    && python deploy/requirements.py > requirements.txt \
    && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt

# ---- the sample: made by the same commands that an operator uses
FROM dependencies AS training
# A package index with CPU-only PyTorch wheels, where the default one has only CUDA builds.
ARG TORCH_INDEX=
RUN python deploy/requirements.py train > train.txt \
    && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement train.txt \
       ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}

FROM training AS release
ARG PRODUCTS=6000
ENV Q2S_HOME=/opt/que2search/sample
COPY que2search.py ./
COPY commands commands
COPY models models
COPY index index
RUN python -m que2search data sample --products "$PRODUCTS" \
    && python -m que2search train \
    && python -m que2search export
RUN python -m que2search build \
    && python -m que2search tune \
    && rm -r "$Q2S_HOME/datasets" "$Q2S_HOME/runs" "$Q2S_HOME/catalogue/products.lmdb-lock"

# ---- the code, compiled once here because nothing can be written where it runs
FROM base AS source
COPY que2search.py pyproject.toml ./
COPY commands commands
COPY models models
COPY index index
COPY service service
COPY benchmarks benchmarks
COPY deploy/*.py deploy/
RUN python -m compileall -q .

FROM base AS serving
RUN groupadd --gid 10001 que2search \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent que2search \
    && install -d -o que2search -g que2search /var/lib/que2search
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=release --chown=10001:10001 /opt/que2search /opt/que2search
COPY --from=source /app /app
ENV Q2S_HOME=/opt/que2search/sample \
    Q2S_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-IS", "/app/deploy/probe.py", "/livez"]
ENTRYPOINT ["python", "-m", "que2search"]
CMD ["serve"]

# ---- docker build --target torchscript: the measured alternative to ONNX Runtime
FROM dependencies AS torch
ARG TORCH_INDEX=
RUN python deploy/requirements.py --only train:torch > torch.txt \
    && pip install --target /opt/torch --constraint constraints.txt --requirement torch.txt \
       ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}

FROM serving AS torchscript
COPY --from=torch /opt/torch /opt/torch
ENV PYTHONPATH=/app:/opt/torch \
    Q2S_ENGINE=torchscript

# ---- docker build --target load: the load generator
FROM dependencies AS bench
RUN python deploy/requirements.py --only bench > bench.txt \
    && pip install --target /opt/bench --constraint constraints.txt --requirement bench.txt

FROM serving AS load
COPY --from=bench /opt/bench /opt/bench
ENV PYTHONPATH=/app:/opt/bench
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "locust", "--locustfile", "/app/benchmarks/locustfile.py"]
CMD ["--help"]

# ---- the default
FROM serving
