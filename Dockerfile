# docker build -t flr .
# docker run -p 8000:8000 -v "$PWD/runs/ml-100k:/run-folder:ro" -v flr-state:/state flr
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 flr && mkdir /state && chown flr /state
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]"
USER 10001
VOLUME /state
EXPOSE 8000
# Keys: docker run --rm -v flr-state:/state flr key --file /state/keys.json --scope admin
ENTRYPOINT ["flr"]
CMD ["serve", "--run", "/run-folder", "--host", "0.0.0.0", "--keys", "/state/keys.json", "--journal", "/state/edits.journal"]
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=3)"]
