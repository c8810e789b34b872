from .attention.attention import Attention as Attention
from .attention.attention import FeedForward as FeedForward
from .attention.attention import PostNorm as PostNorm
from .attention.attention import PreNorm as PreNorm
from .attention.attention import ProjectedAttention as ProjectedAttention
from .attention.box_relations import BoxRelationBias as BoxRelationBias
from .attention.box_relations import NoBoxRelations as NoBoxRelations
from .attention.box_relations import QueryAttentionMask as QueryAttentionMask
from .attention.deformable_attention import DeformableAttention as DeformableAttention
from .attention.position_encoding import CenterSinePosition as CenterSinePosition
from .attention.position_encoding import GridPosition as GridPosition
from .attention.position_encoding import LearnedPosition as LearnedPosition
from .attention.position_encoding import SinePosition as SinePosition
from .attention.value_sampling import CellSampling as CellSampling
from .attention.value_sampling import NearestSampling as NearestSampling
from .attention.value_sampling import ProjectedSampling as ProjectedSampling
from .attention.value_sampling import ValueSampling as ValueSampling
from .decoders.conditional_decoder import AnchorDecoder as AnchorDecoder
from .decoders.conditional_decoder import ConditionalDecoder as ConditionalDecoder
from .decoders.conditional_decoder import ConditionalDecoderLayer as ConditionalDecoderLayer
from .decoders.conditional_decoder import CrossInputs as CrossInputs
from .decoders.conditional_decoder import FirstCrossInputs as FirstCrossInputs
from .decoders.deformable_decoder import BoxPosition as BoxPosition
from .decoders.deformable_decoder import DeformableDecoderLayer as DeformableDecoderLayer
from .decoders.deformable_decoder import RefiningDecoder as RefiningDecoder
from .decoders.distribution_decoder import DistributionDecoder as DistributionDecoder
from .decoders.distribution_decoder import EdgeQuality as EdgeQuality
from .decoders.distribution_decoder import GatedDecoderLayer as GatedDecoderLayer
from .decoders.placed_decoder import PlacedRefiningDecoder as PlacedRefiningDecoder
from .decoders.placed_decoder import SteadyPlaceDecoder as SteadyPlaceDecoder
from .decoders.steady_decoder import SteadyDecoder as SteadyDecoder
from .decoders.transformer_decoder import Decoder as Decoder
from .decoders.transformer_decoder import DecoderLayer as DecoderLayer
from .encoders.deformable_encoder import DeformableEncoder as DeformableEncoder
from .encoders.deformable_encoder import DeformableEncoderLayer as DeformableEncoderLayer
from .encoders.fusion_blocks import CSPFusion as CSPFusion
from .encoders.fusion_blocks import ELANBlock as ELANBlock
from .encoders.fusion_blocks import ShrinkBlock as ShrinkBlock
from .encoders.fusion_blocks import ShrinkConv as ShrinkConv
from .encoders.hybrid_encoder import HybridEncoder as HybridEncoder
from .encoders.hybrid_encoder import PyramidEncoder as PyramidEncoder
from .encoders.scale_projector import ScaleProjector as ScaleProjector
from .encoders.transformer_encoder import Encoder as Encoder
from .encoders.transformer_encoder import EncoderLayer as EncoderLayer
from .encoders.transformer_encoder import ScaledPositionEncoder as ScaledPositionEncoder
from .heads.detr_mask_head import DETRMaskHead as DETRMaskHead
from .heads.dot_product_mask_head import DotProductMaskHead as DotProductMaskHead
from .heads.heads import BoxHead as BoxHead
from .heads.heads import ClassHead as ClassHead
from .heads.pixel_mask_head import PixelMaskHead as PixelMaskHead
from .queries.denoising import Denoising as Denoising
from .queries.group_queries import GroupAttention as GroupAttention
from .queries.group_queries import GroupQueries as GroupQueries
from .queries.placed_queries import LearnedPlaces as LearnedPlaces
from .queries.placed_queries import PlacedQueries as PlacedQueries
from .queries.placed_queries import TokenPlaces as TokenPlaces
from .queries.queries import AnchorQueries as AnchorQueries
from .queries.queries import AnchorSelection as AnchorSelection
from .queries.queries import ContentQueries as ContentQueries
from .queries.queries import LearnedQueries as LearnedQueries
from .queries.queries import QuerySelection as QuerySelection

__all__ = [
    "AnchorDecoder",
    "AnchorQueries",
    "AnchorSelection",
    "Attention",
    "BoxHead",
    "BoxPosition",
    "BoxRelationBias",
    "CSPFusion",
    "CellSampling",
    "CenterSinePosition",
    "ClassHead",
    "ConditionalDecoder",
    "ConditionalDecoderLayer",
    "ContentQueries",
    "CrossInputs",
    "DETRMaskHead",
    "Decoder",
    "DecoderLayer",
    "DeformableAttention",
    "DeformableDecoderLayer",
    "DeformableEncoder",
    "DeformableEncoderLayer",
    "Denoising",
    "DistributionDecoder",
    "DotProductMaskHead",
    "ELANBlock",
    "EdgeQuality",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "FirstCrossInputs",
    "GatedDecoderLayer",
    "GridPosition",
    "GroupAttention",
    "GroupQueries",
    "HybridEncoder",
    "LearnedPlaces",
    "LearnedPosition",
    "LearnedQueries",
    "NearestSampling",
    "NoBoxRelations",
    "PixelMaskHead",
    "PlacedQueries",
    "PlacedRefiningDecoder",
    "PostNorm",
    "PreNorm",
    "ProjectedAttention",
    "ProjectedSampling",
    "PyramidEncoder",
    "QueryAttentionMask",
    "QuerySelection",
    "RefiningDecoder",
    "ScaleProjector",
    "ScaledPositionEncoder",
    "ShrinkBlock",
    "ShrinkConv",
    "SinePosition",
    "SteadyDecoder",
    "SteadyPlaceDecoder",
    "TokenPlaces",
    "ValueSampling",
]
