"""All tables, by subject."""

from geocrm.db.models.audit import AuditEntry, AuditPayload, AuditSeal
from geocrm.db.models.base import Base
from geocrm.db.models.customers import (
    Consent,
    Contact,
    Customer,
    CustomerSource,
    Site,
    SiteCell,
    SiteCellDelta,
    SiteLookup,
    SiteSource,
)
from geocrm.db.models.imports import ImportBatch, ImportRow
from geocrm.db.models.interactions import Interaction, InteractionSource
from geocrm.db.models.jobs import Job
from geocrm.db.models.people import ApiKey, IdempotencyKey, LoginAttempt, Role, Team, User, UserSession
from geocrm.db.models.places import Place, PlaceSource
from geocrm.db.models.sales import Product, ProductSource, Sale, SaleLine, SaleSource
from geocrm.db.models.territories import (
    Area,
    AreaOwner,
    AreaPeriod,
    AreaPiece,
    AreaSource,
    AreaVersion,
    Assignment,
    Contradiction,
    Layer,
    LayerArea,
    LayerPeriod,
    LayerVersion,
    NamedAccount,
    NamedAccountVersion,
    NamedPeriod,
)

__all__ = [
    "ApiKey",
    "Area",
    "AreaOwner",
    "AreaPeriod",
    "AreaPiece",
    "AreaSource",
    "AreaVersion",
    "Assignment",
    "AuditEntry",
    "AuditPayload",
    "AuditSeal",
    "Base",
    "Consent",
    "Contact",
    "Contradiction",
    "Customer",
    "CustomerSource",
    "IdempotencyKey",
    "ImportBatch",
    "ImportRow",
    "Interaction",
    "InteractionSource",
    "Job",
    "Layer",
    "LayerArea",
    "LayerPeriod",
    "LayerVersion",
    "LoginAttempt",
    "NamedAccount",
    "NamedAccountVersion",
    "NamedPeriod",
    "Place",
    "PlaceSource",
    "Product",
    "ProductSource",
    "Role",
    "Sale",
    "SaleLine",
    "SaleSource",
    "Site",
    "SiteCell",
    "SiteCellDelta",
    "SiteLookup",
    "SiteSource",
    "Team",
    "User",
    "UserSession",
]
