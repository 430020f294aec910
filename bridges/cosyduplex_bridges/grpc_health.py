"""gRPC's own health service, which probes ask; like /healthz and /readyz it needs no key."""

from __future__ import annotations

from collections.abc import Collection

import grpc

from cosyduplex_bridges.grpc_calls import Call, ForeignFailure, answers
from cosyduplex_bridges.grpc_stubs import health_pb2 as health
from cosyduplex_server.gateway import Gateway


class HealthService:
    """Says whether the server takes work.

    Args:
        gateway: what is asked about.
        services: the full names of those on this port.
    """

    def __init__(self, gateway: Gateway, services: Collection[str]) -> None:
        self._gateway = gateway
        self._services = ("", *services)

    @answers
    async def Check(self, request: health.HealthCheckRequest, context: Call) -> health.HealthCheckResponse:
        """The state now."""
        if request.service not in self._services:
            raise ForeignFailure(grpc.StatusCode.NOT_FOUND, "unknown service")
        ready = self._gateway.pool.ready and not self._gateway.draining
        status = health.HealthCheckResponse.SERVING if ready else health.HealthCheckResponse.NOT_SERVING
        return health.HealthCheckResponse(status=status)
