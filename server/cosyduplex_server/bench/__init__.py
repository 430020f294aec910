"""The load generator behind `cosyduplex bench`: what listeners would hear of a server under load."""
