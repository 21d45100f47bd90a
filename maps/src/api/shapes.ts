/** The parts of the API's answers that the application reads: from the generated schema where it describes them. */

import type { components } from './schema';

type Schemas = components['schemas'];

export type Me = Schemas['Me'];
export type Named = Schemas['Named'];
export type Colleague = Schemas['Colleague'];
export type CustomerRow = Schemas['CustomerInList'];
export type Customer = Schemas['ShownCustomer'];
export type Site = Schemas['ShownSiteWithReason'];
export type Contact = Schemas['ShownContact'];
export type Month = Schemas['Month'];
export type Interaction = Schemas['ShownInteraction'];
export type Place = Schemas['ShownPlace'];
export type FieldError = Partial<Schemas['ProblemFault']>;

export interface List<T> {
  readonly data: readonly T[];
  readonly has_more: boolean;
  readonly next_cursor?: string | null;
}

export interface LonLat {
  readonly lon: number;
  readonly lat: number;
}

export interface NearbyCustomer {
  readonly id: string;
  readonly site_id: string;
  readonly name: string;
  readonly kind: string;
  readonly stage: string;
  readonly distance_m: number;
  readonly bearing_deg: number;
  readonly location: LonLat;
  readonly location_precision: string;
  readonly precision_m: number;
  readonly is_primary: boolean;
  readonly owner: { readonly id: string } | null;
  readonly territory: Named | null;
}

/** One row of the ledger: who had a site or point, on which layer, when, and why. */
export interface Assignment {
  readonly layer?: string | null;
  readonly site_id?: string | null;
  readonly territory: Named | null;
  readonly owner?: { readonly id: string; readonly name?: string | null } | null;
  readonly basis: string;
  readonly reason?: string | null;
  readonly valid_from: string;
  readonly valid_to?: string | null;
}

export interface LayerInfo {
  readonly id: string;
  readonly name: string;
  readonly is_primary?: boolean;
}

export interface Area {
  readonly id: string;
  readonly name: string;
}

export interface TileJson {
  readonly bounds?: readonly [number, number, number, number];
}
