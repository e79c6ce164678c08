"""An association ends, whatever pynetdicom's threads do."""

import threading
import time

from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification

from dicom_node.line import Line
from dicom_node.services.association import association


def test_a_release_ends_where_an_event_report_was_served_at_the_same_moment() -> None:
    """Its thread said "running" of a thread that had just paused; pynetdicom's own release never returns."""
    released = threading.Event()
    entity = AE("ARCHIVE")
    entity.add_supported_context(Verification)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_RELEASED, lambda _: released.set())]
    )
    port = server.server_address[1]
    line = Line(host="127.0.0.1", port=port, calling_aet="VIGIL", called_aet="ARCHIVE")
    try:
        with association(line, [build_context(Verification)]) as opened:
            opened._reactor_checkpoint.clear()
            while not opened._is_paused:
                time.sleep(0.001)
            opened._is_paused = False
        assert released.wait(60)
    finally:
        server.shutdown()
    assert opened.is_released
