# The studio in a container, on a CPU as on a GPU:
#   docker build -t kinora . && docker run -p 7860:7860 -v kinora:/data kinora
# TORCH holds the words after "pip install": torch's usual build, for CUDA, if not told. Those that pytorch.org shows for
# the CPU build keep the image small: --build-arg TORCH="torch ...".
# For a GPU, with the optional extras:
#   docker build -t kinora --build-arg REQUIREMENTS=requirements-gpu.txt .
#   docker run --gpus all -p 7860:7860 -v kinora:/data kinora
# The page wants the password that the log shows, or the one in KINORA_PASSWORD.
FROM python:3.12-slim

ARG TORCH=torch
ARG REQUIREMENTS=requirements.txt

WORKDIR /app
COPY requirements.txt requirements-gpu.txt requirements-quantised.txt requirements-credentials.txt ./
RUN pip install --no-cache-dir $TORCH && pip install --no-cache-dir -r $REQUIREMENTS
COPY . .

ENV KINORA_HOST=0.0.0.0
ENV KINORA_OUTPUTS=/data/outputs
ENV KINORA_MODELS=/data/models
ENV HF_HOME=/data/hub
RUN mkdir -p /data/outputs /data/models /data/hub && chown -R 1000:1000 /data

USER 1000
VOLUME /data
EXPOSE 7860
CMD ["python", "app.py"]
