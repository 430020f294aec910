"""From engine samples to wire frames: resampling, encoding, framing."""
