"""An RTSP camera for the tests: H.264 or H.265 test pictures from GStreamer's RTSP server.

rtsp_server.py PORT [--auth USER:PASSWORD] MOUNT=PATTERN,FPS,WIDTH,HEIGHT,LOSS_PERCENT,ENCODER...

PATTERN is one of videotestsrc's: smpte, ball, red, green, blue, ... ENCODER is x264enc or x265enc
with its properties; empty: x264enc with a keyframe a second. Prints "ready" when it serves.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def launch_line(pattern, fps, width, height, loss_percent, encoder):
    encoder = encoder or f"x264enc tune=zerolatency key-int-max={fps}"
    payloader = "rtph265pay" if encoder.startswith("x265enc") else "rtph264pay"
    pay = f"{payloader} name=pay0 pt=96 config-interval=1"
    if loss_percent != "0":
        # What is called pay0 is what the server takes packets from.
        pay = f"{payloader} pt=96 config-interval=1 ! identity name=pay0 drop-probability={int(loss_percent) / 100}"
    return (
        f"( videotestsrc is-live=true pattern={pattern}"
        f" ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
        f" ! {encoder} speed-preset=ultrafast bitrate=1000"
        f" ! {pay}"
        " audiotestsrc is-live=true wave=silence ! audioconvert ! mulawenc ! rtppcmupay name=pay1 pt=0 )"
    )


def main():
    args = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.pop(0))
    user = None
    if args[0] == "--auth":
        user, _, password = args[1].partition(":")
        del args[:2]
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", user)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
    for arg in args:
        mount, _, settings = arg.partition("=")
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch_line(*settings.split(",", 5)))
        factory.set_shared(True)
        if user:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role(user, "media.factory.access", True)
            permissions.add_permission_for_role(user, "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory("/" + mount, factory)
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
