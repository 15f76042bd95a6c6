#!/usr/bin/python3
"""Waits until every camera named has sent COUNT frames in one session, and prints the last of each:
    latest.py URL SECONDS COUNT CAMERA...
    CAMERA EPOCH SEQ WIDTHxHEIGHT BYTES
Exits with 1 and says what came if that does not happen within SECONDS.
"""

import sys
import time

import pika


def main(url, seconds, count, *cameras):
    deadline = time.monotonic() + float(seconds)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare("cameras", exchange_type="topic", durable=True)
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-length": 64}).method.queue
    channel.queue_bind(queue, "cameras", "#")
    seen = {}  # camera: (frames, line)
    for _, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.2):
        if properties:
            h = properties.headers
            camera, epoch = h["camera_id"], h["epoch"]
            assert body[:2] == b"\xff\xd8" and body[-2:] == b"\xff\xd9", "not a JPEG"
            assert properties.message_id == f"{camera}/{epoch}/{h['seq']}", properties.message_id
            before = seen.get(camera, (0, 0, ""))
            frames = before[0] + 1 if before[1] == epoch else 1
            line = f"{camera} {epoch} {h['seq']} {h['width']}x{h['height']} {len(body)}"
            seen[camera] = (frames, epoch, line)
        if all(seen.get(camera, (0,))[0] >= int(count) for camera in cameras):
            break
        if time.monotonic() > deadline:
            sys.exit(f"in {seconds} s only: {[line for _, _, line in seen.values()]}")
    for camera in cameras:
        print(seen[camera][2])


main(*sys.argv[1:])
