/** The parts of the API's answers that the application reads, by short names; all from the generated schema. */

import type { Answer } from './client';
import type { components } from './schema';

type Schemas = components['schemas'];
type Row<T extends { data: readonly unknown[] }> = T['data'][number];

export type Me = Schemas['Me'];
export type Named = Schemas['Named'];
export type Colleague = Schemas['Colleague'];
export type CustomerRow = Schemas['CustomerInList'];
export type Customer = Schemas['ShownCustomer'];
export type Site = Schemas['ShownSiteWithReason'];
export type Contact = Schemas['ShownContact'];
export type Interaction = Schemas['ShownInteraction'];
export type Task = Schemas['ShownTask'];
export type Place = Schemas['ShownPlace'];
export type Area = Schemas['ShownArea'];
export type LayerRow = Schemas['ShownLayer'];
export type Segmentation = Schemas['ShownSegmentation'];
export type Segment = Schemas['ShownSegment'];
export type Run = Schemas['ShownRun'];
export type RunWithResults = Schemas['ShownRunWithResults'];
export type GroupsPreview = Schemas['GroupsPreview'];
export type RulePreview = Schemas['RulePreview'];
export type Offer = Schemas['ShownOffer'];
export type OfferVersion = Schemas['ShownOfferVersion'];
export type OfferWhere = Schemas['ShownWhere'];
export type OfferResults = Schemas['ShownResults'];
export type Outcome = Schemas['ShownOutcome'];
export type Product = Schemas['ShownProduct'];
export type ApiKey = Schemas['ShownKey'];
export type KeyRequest = Schemas['KeyRequest'];
export type Webhook = Schemas['ShownWebhook'];
export type Delivery = Schemas['ShownDelivery'];
export type DeliveryWithTries = Schemas['OneDelivery'];
export type Fence = Schemas['ShownFence'];
export type OneFence = Schemas['ShownOneFence'];
export type WalkEvent = Schemas['WalkEvent'];
export type Eligible = Answer<'/v1/offers/eligible'>;
export type EligibleOffer = Row<Eligible>;
export type OtherOffer = NonNullable<Eligible['others']>[number];
export type Member = Schemas['Member'];
export type Assignment = Schemas['LedgerRow'];
export type NearbyCustomer = Row<Answer<'/v1/customers/nearby'>>;
export type TerritoryHere = Row<Answer<'/v1/territories/at'>>;
