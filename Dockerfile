# One image for the server and for workers; what it does is the command: `serve` or `worker`.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    THAW_HOME_DIR=/var/lib/thaw \
    THAW_DATA_DIR=/data \
    THAW_WEIGHTS_DIR=/weights \
    THAW_HOST=0.0.0.0
# On 0.0.0.0 the server starts once there is a key: `keys create --scope admin`, with the same volume.

WORKDIR /opt/thaw
COPY pyproject.toml constraints.txt README.md ./
COPY finetune finetune
COPY app app
COPY worker worker
COPY client client
COPY migrations migrations
COPY examples examples
# Editable, so that the packages are where the examples are and THAW_BACKBONES may name those.
RUN pip install --constraint constraints.txt --editable '.[postgresql,timm]'

RUN useradd --create-home --uid 1000 thaw \
    && install --directory --owner thaw --group thaw /var/lib/thaw /data /weights
USER thaw
VOLUME ["/var/lib/thaw"]
EXPOSE 8321

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('THAW_PORT', 8321)}/readyz\", timeout=4)"]

ENTRYPOINT ["thaw"]
CMD ["serve"]
