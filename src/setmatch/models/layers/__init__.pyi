from .attention import Attention as Attention
from .attention import FeedForward as FeedForward
from .attention import PostNorm as PostNorm
from .attention import PreNorm as PreNorm
from .box_relations import BoxRelationBias as BoxRelationBias
from .box_relations import QueryAttentionMask as QueryAttentionMask
from .deformable_attention import DeformableAttention as DeformableAttention
from .deformable_decoder import DeformableDecoderLayer as DeformableDecoderLayer
from .deformable_decoder import RefiningDecoder as RefiningDecoder
from .denoising import Denoising as Denoising
from .detr_mask_head import DETRMaskHead as DETRMaskHead
from .dot_product_mask_head import DotProductMaskHead as DotProductMaskHead
from .heads import BoxHead as BoxHead
from .heads import ClassHead as ClassHead
from .hybrid_encoder import HybridEncoder as HybridEncoder
from .position_encoding import LearnedPosition as LearnedPosition
from .position_encoding import SinePosition as SinePosition
from .queries import ContentQueries as ContentQueries
from .queries import LearnedQueries as LearnedQueries
from .queries import QuerySelection as QuerySelection
from .transformer_decoder import Decoder as Decoder
from .transformer_decoder import DecoderLayer as DecoderLayer
from .transformer_encoder import Encoder as Encoder
from .transformer_encoder import EncoderLayer as EncoderLayer

__all__ = [
    "Attention",
    "BoxHead",
    "BoxRelationBias",
    "ClassHead",
    "ContentQueries",
    "DETRMaskHead",
    "Decoder",
    "DecoderLayer",
    "DeformableAttention",
    "DeformableDecoderLayer",
    "Denoising",
    "DotProductMaskHead",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "HybridEncoder",
    "LearnedPosition",
    "LearnedQueries",
    "PostNorm",
    "PreNorm",
    "QueryAttentionMask",
    "QuerySelection",
    "RefiningDecoder",
    "SinePosition",
]
