# One image for every process: gateway, worker, console and student server differ by their command alone.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 stillhouse \
    && install -d -o stillhouse -g stillhouse /data

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir torch==2.13.0 \
    && grep -vE '^#' constraints.txt > /tmp/locked.txt \
    && pip install --no-cache-dir --no-deps --require-hashes -r /tmp/locked.txt
COPY capture capture
COPY students students
COPY gateway gateway
COPY console console
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER stillhouse
ENV STILLHOUSE_DATA=/data PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT ["stillhouse"]
CMD ["up"]
