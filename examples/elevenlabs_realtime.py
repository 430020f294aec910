# client: vendors
"""ElevenLabs' SDK, pointed here: text goes in while audio comes out.

It insists on TLS for this: `cosyduplex serve --tls-port 8443 --tls-cert auto`, and SSL_CERT_FILE names that
certificate.
"""

import os

from elevenlabs.client import ElevenLabs

url = os.environ.get("COSYDUPLEX_TLS_URL", "https://127.0.0.1:8443")
client = ElevenLabs(api_key="local", base_url=url)


def tokens():
    yield from ("The first words ", "are heard while ", "the last ones are being ", "thought of.")


with open("elevenlabs.mp3", "wb") as file:
    for audio in client.text_to_speech.convert_realtime("JBFqnCBsd6RMkjVDRZzb", text=tokens()):
        file.write(audio)
