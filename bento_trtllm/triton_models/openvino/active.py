"""A request in OpenVINO's batch: its sequences, and what is still to be sent of them."""

from __future__ import annotations

from dataclasses import dataclass

from faults import Fault
from outbox import Outgoing
from reply import Reply
from request import EngineRequest
from sequence import Sequence


@dataclass
class ActiveRequest:
    """What the batcher holds of it."""

    request: EngineRequest
    reply: Reply
    sequences: list[Sequence]
    outgoing: Outgoing
    dropped: bool = False
    """It has had its last response, or must have no more."""

    @classmethod
    def of(cls, request: EngineRequest, reply: Reply) -> ActiveRequest:
        sequences = [Sequence(request, request.seed + i) for i in range(request.sequences)]
        return cls(request, reply, sequences, Outgoing(reply, request.sequences, request.streaming))

    @property
    def finished(self) -> bool:
        return all(sequence.finished for sequence in self.sequences)

    @property
    def awaits_guide(self) -> bool:
        """The engine has yet to take up its guide."""
        return self.request.guide is not None and not all(sequence.begun for sequence in self.sequences)

    def drop(self, fault: Fault | None = None) -> None:
        """Leave the batch, with an error for its client, if there is still one."""
        self.dropped = True
        for sequence in self.sequences:
            sequence.cancel()
        if fault:
            self.reply.end(fault)
