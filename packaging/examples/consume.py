#!/usr/bin/env python3
"""Shows what arrives from each camera, decodes the pictures, and keeps the latest one of each.

On Debian: apt install python3-pika python3-pil
    consume.py amqp://user:password@broker.example/ pictures
"""

import io
import os
import sys
import time

import pika
from PIL import Image


def main(url, folder, exchange="cameras", keys="#"):
    os.makedirs(folder, exist_ok=True)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    # Declared as the daemon does, so that either program may start first.
    channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    # An exclusive queue, deleted with the connection. A slow consumer loses the oldest pictures.
    queue = channel.queue_declare(
        "", exclusive=True, arguments={"x-max-length": 64, "x-overflow": "drop-head"}
    ).method.queue
    channel.queue_bind(queue, exchange, keys)

    last = {}  # camera: (epoch, seq) of its last picture
    for _, properties, body in channel.consume(queue, auto_ack=True, exclusive=True):
        headers = properties.headers
        camera, seq, epoch = headers["camera_id"], headers["seq"], headers["epoch"]
        age_ms = (time.time_ns() // 1000 - headers["captured_at_us"]) / 1000

        # Pictures of a camera come in order; a gap in seq means dropped pictures.
        before = last.get(camera)
        missed = seq - before[1] - 1 if before and before[0] == epoch else 0
        last[camera] = (epoch, seq)

        picture = Image.open(io.BytesIO(body))
        picture.load()
        # For OpenCV: cv2.imdecode(numpy.frombuffer(body, numpy.uint8), cv2.IMREAD_COLOR)

        print(f"{camera} {picture.width}x{picture.height} {len(body) // 1000} KB "
              f"seq {seq} age {age_ms:.0f} ms missed {missed}", flush=True)
        # Renamed when complete, so that other programs never read half a picture.
        path = os.path.join(folder, camera + ".jpg")
        with open(path + ".new", "wb") as file:
            file.write(body)
        os.replace(path + ".new", path)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} URL FOLDER [EXCHANGE [KEYS]]")
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
