"""Features to features, for any shape of data. Networks know nothing of probability."""

from ._affine import Restore as Restore
from ._affine import Standardise as Standardise
from ._conv import ConvDecoder as ConvDecoder
from ._conv import ConvEncoder as ConvEncoder
from ._factory import NETWORKS as NETWORKS
from ._factory import Decoder as Decoder
from ._factory import Encoder as Encoder
from ._factory import NetworkName as NetworkName
from ._factory import NetworkOptions as NetworkOptions
from ._factory import build_networks as build_networks
from ._factory import resolve_network as resolve_network
from ._factory import set_data_statistics as set_data_statistics
from ._grid import Grid as Grid
from ._linear import LinearDecoder as LinearDecoder
from ._linear import LinearEncoder as LinearEncoder
from ._mlp import MLPDecoder as MLPDecoder
from ._mlp import MLPEncoder as MLPEncoder
