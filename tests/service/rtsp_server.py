#!/usr/bin/python3
"""A camera in the network, on loopback: JPEG pictures by RTSP, with GStreamer's server.

usage: rtsp_server.py PORT [--rate FRAMES_PER_SECOND] [--user NAME PASSWORD]

Says "ready" once it listens. Its packages are in rtsp_tools; Debian's Python, for the bindings are Debian's.
"""
import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("--rate", type=int, default=20)
parser.add_argument("--user", nargs=2)
options = parser.parse_args()

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(options.port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate={options.rate}/1 "
    "! jpegenc ! rtpjpegpay name=pay0 )"
)
factory.set_shared(True)
if options.user:
    authentication = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    authentication.add_basic(GstRtspServer.RTSPAuth.make_basic(*options.user), token)
    server.set_auth(authentication)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")
    )
server.get_mount_points().add_factory("/cam", factory)
if server.attach(None) == 0:
    raise SystemExit(f"cannot listen on {options.port}")
print("ready", flush=True)
GLib.MainLoop().run()
