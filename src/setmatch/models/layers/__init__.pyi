from .attention import Attention as Attention
from .attention import FeedForward as FeedForward
from .attention import PostNorm as PostNorm
from .attention import PreNorm as PreNorm
from .attention import ProjectedAttention as ProjectedAttention
from .box_relations import BoxRelationBias as BoxRelationBias
from .box_relations import NoBoxRelations as NoBoxRelations
from .box_relations import QueryAttentionMask as QueryAttentionMask
from .conditional_decoder import AnchorDecoder as AnchorDecoder
from .conditional_decoder import ConditionalDecoder as ConditionalDecoder
from .conditional_decoder import ConditionalDecoderLayer as ConditionalDecoderLayer
from .conditional_decoder import CrossInputs as CrossInputs
from .conditional_decoder import FirstCrossInputs as FirstCrossInputs
from .deformable_attention import DeformableAttention as DeformableAttention
from .deformable_decoder import BoxPosition as BoxPosition
from .deformable_decoder import DeformableDecoderLayer as DeformableDecoderLayer
from .deformable_decoder import RefiningDecoder as RefiningDecoder
from .deformable_encoder import DeformableEncoder as DeformableEncoder
from .deformable_encoder import DeformableEncoderLayer as DeformableEncoderLayer
from .denoising import Denoising as Denoising
from .detr_mask_head import DETRMaskHead as DETRMaskHead
from .distribution_decoder import DistributionDecoder as DistributionDecoder
from .distribution_decoder import EdgeQuality as EdgeQuality
from .distribution_decoder import GatedDecoderLayer as GatedDecoderLayer
from .dot_product_mask_head import DotProductMaskHead as DotProductMaskHead
from .fusion_blocks import CSPFusion as CSPFusion
from .fusion_blocks import ELANBlock as ELANBlock
from .fusion_blocks import ShrinkBlock as ShrinkBlock
from .fusion_blocks import ShrinkConv as ShrinkConv
from .group_queries import GroupAttention as GroupAttention
from .group_queries import GroupQueries as GroupQueries
from .heads import BoxHead as BoxHead
from .heads import ClassHead as ClassHead
from .hybrid_encoder import HybridEncoder as HybridEncoder
from .hybrid_encoder import PyramidEncoder as PyramidEncoder
from .pixel_mask_head import PixelMaskHead as PixelMaskHead
from .placed_decoder import PlacedRefiningDecoder as PlacedRefiningDecoder
from .placed_decoder import SteadyPlaceDecoder as SteadyPlaceDecoder
from .placed_queries import LearnedPlaces as LearnedPlaces
from .placed_queries import PlacedQueries as PlacedQueries
from .placed_queries import TokenPlaces as TokenPlaces
from .position_encoding import CenterSinePosition as CenterSinePosition
from .position_encoding import GridPosition as GridPosition
from .position_encoding import LearnedPosition as LearnedPosition
from .position_encoding import SinePosition as SinePosition
from .queries import AnchorQueries as AnchorQueries
from .queries import AnchorSelection as AnchorSelection
from .queries import ContentQueries as ContentQueries
from .queries import LearnedQueries as LearnedQueries
from .queries import QuerySelection as QuerySelection
from .scale_projector import ScaleProjector as ScaleProjector
from .steady_decoder import SteadyDecoder as SteadyDecoder
from .transformer_decoder import Decoder as Decoder
from .transformer_decoder import DecoderLayer as DecoderLayer
from .transformer_encoder import Encoder as Encoder
from .transformer_encoder import EncoderLayer as EncoderLayer
from .transformer_encoder import ScaledPositionEncoder as ScaledPositionEncoder
from .value_sampling import CellSampling as CellSampling
from .value_sampling import NearestSampling as NearestSampling
from .value_sampling import ProjectedSampling as ProjectedSampling
from .value_sampling import ValueSampling as ValueSampling

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
