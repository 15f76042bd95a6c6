"""What people write instead: one thread a camera, FFmpeg's pictures to RabbitMQ with pika.

peer_pika.py PORT EXCHANGE FFMPEG INPUT...
"""
import subprocess
import sys
import threading

import pika


def camera(port, exchange, ffmpeg, number, source):
    ffmpeg = subprocess.Popen([ffmpeg, "-i", source], stdout=subprocess.PIPE)
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
    channel = connection.channel()
    properties = pika.BasicProperties(content_type="image/jpeg")
    pictures = ffmpeg.stdout
    while True:
        line = pictures.readline()
        if not line:
            return
        if line.startswith(b"Content-length:"):
            length = int(line.split(b":")[1])
        elif line == b"\r\n":
            picture = pictures.read(length)
            pictures.readline()
            channel.basic_publish(exchange, "camera.%d" % number, picture, properties)


port, exchange, ffmpeg = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for number, source in enumerate(sys.argv[4:]):
    threading.Thread(target=camera, args=(port, exchange, ffmpeg, number, source)).start()
