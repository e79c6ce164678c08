"""Negative log-likelihood of codes under a flow; the network that made the codes is not moved by it."""

from typing import Literal

from torch import Tensor

from models.making.networks.flow import Flow
from models.making.objectives.term import Term
from models.making.passes import Output, Pass


def vector_of(output: Output) -> Tensor:
    """What a density is fitted to: the features of an embedding, else the mean code; (batch, n).

    Raises
    ------
    TypeError
        If the network gives neither.
    """
    if output.features is not None:
        return output.features.float()
    if output.code is None:
        raise TypeError("a density needs a network with features or a code")
    code = output.code
    return (code.z if code.mean is None else code.mean).float().flatten(1)


class FlowLikelihood(Term):
    """Mean surprise of the codes of the branch's network.

    Attributes
    ----------
    flow : str
        Network of type ``flow``.
    """

    type: Literal["flow_likelihood"] = "flow_likelihood"
    flow: str

    def names(self) -> frozenset[str]:
        """The flow."""
        return frozenset({self.flow})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        flow = p.networks[self.flow]
        if not isinstance(flow, Flow):
            raise TypeError(f"{self.flow} is not a flow")
        return flow.surprise(vector_of(p.output).detach()).mean()
