#!/usr/bin/env python3
"""Decodes the cameras' own video as it arrives, and shows pictures per second.

On Debian: apt install python3-pika python3-av
    consume_video.py amqp://user:password@broker.example/
    consume_video.py amqp://user:password@broker.example/ --key video.door
"""

import argparse
import time
from fractions import Fraction

import av
import pika

CODECS = {"h264": "h264", "h265": "hevc"}  # FFmpeg's names


class Camera:
    """The units of one camera: skips what cannot be decoded, and decodes the rest."""

    def __init__(self, name):
        self.name = name
        self.last = None  # (epoch, seq) of the last unit
        self.decoder = None  # None: waits for a key unit
        self.pictures = self.skipped = self.gaps = self.shown = 0

    def unit(self, headers, body):
        epoch, seq = headers["epoch"], headers["seq"]
        if self.last and (epoch, seq) != (self.last[0], self.last[1] + 1):
            # Units are missing, or FFmpeg was started again. A decoder would not notice: it would
            # show damaged pictures. After a gap in seq the next unit is a key unit, unless our own
            # queue has dropped units.
            self.gaps += epoch == self.last[0]
            yield from self.end()
        self.last = (epoch, seq)
        if self.decoder is None:
            if not headers["key"]:
                self.skipped += 1
                return
            # A new decoder knows nothing of what was before the gap. So it drops the pictures that
            # refer to it, which H.265 may have after a key unit.
            self.decoder = av.CodecContext.create(CODECS[headers["codec"]], "r")
            self.decoder.thread_count = 1  # each further thread delays the pictures by one
        packet = av.Packet(body)
        # Units arrive in the order of decoding, pictures leave in the order of pts.
        packet.pts = headers["pts_us"]
        packet.time_base = Fraction(1, 1_000_000)
        yield from self.decode(packet)

    def decode(self, packet):
        try:
            yield from self.decoder.decode(packet)
        except av.error.FFmpegError as error:
            print(f"{self.name}: {error}; waiting for the next keyframe", flush=True)
            self.decoder = None

    def end(self):
        """The pictures that the decoder still holds."""
        if self.decoder is not None:
            yield from self.decode(None)
            self.decoder = None


def main(url, exchange, key, pictures):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    # Declared as the daemon does, so that either program may start first.
    channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    # An exclusive queue, deleted with the connection. It must hold a whole group of pictures of
    # each camera. A slow consumer loses the oldest units, and what is older than 4 s.
    limits = {"x-max-length": 2000, "x-max-length-bytes": 64 << 20, "x-message-ttl": 4000}
    queue = channel.queue_declare("", exclusive=True, arguments=limits).method.queue
    channel.queue_bind(queue, exchange, key)
    print(f"waiting for video from {exchange}", flush=True)

    cameras = {}
    since, total = time.monotonic(), 0
    for _, properties, body in channel.consume(
        queue, auto_ack=True, exclusive=True, inactivity_timeout=1
    ):
        if properties is not None:
            headers = properties.headers
            name = headers["camera_id"]
            camera = cameras.setdefault(name, Camera(name))
            for picture in camera.unit(headers, body):
                # picture.to_ndarray(format="bgr24") is an array for OpenCV.
                camera.pictures += 1
                total += 1
                size = f"{picture.width}x{picture.height}"
                if pictures and total >= pictures:
                    print(f"{name} {size}: {total} pictures, {camera.gaps} gaps, "
                          f"{camera.skipped} units skipped", flush=True)
                    return
        seconds = time.monotonic() - since
        if seconds >= 1:
            for name, camera in cameras.items():
                rate = (camera.pictures - camera.shown) / seconds
                camera.shown = camera.pictures
                print(f"{name} {rate:.1f} pictures/s, {camera.gaps} gaps, "
                      f"{camera.skipped} units skipped", flush=True)
            since = time.monotonic()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="amqp://user:password@broker.example/")
    parser.add_argument("--exchange", default="cameras.video")
    parser.add_argument("--key", default="#", help="binding key, such as video.door")
    parser.add_argument("--pictures", type=int, default=0, help="end after so many")
    arguments = parser.parse_args()
    try:
        main(**vars(arguments))
    except KeyboardInterrupt:
        pass
