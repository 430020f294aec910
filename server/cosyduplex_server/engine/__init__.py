"""Engine workers: the link, their host, and the gateway's pool of them."""
