/** The parts of the API's answers that the application reads. */

export interface Named {
  readonly id: string;
  readonly name?: string | null;
}

export interface Me {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  readonly permissions: readonly string[];
  /** Whose contact details are readable: `shown`, `consented` or `masked`. */
  readonly contacts: string;
  /** False: every point is snapped to a grid of 500 m. */
  readonly exact: boolean;
  readonly csrf_token: string | null;
  readonly teams: readonly Named[];
  readonly settings: { readonly map_style_url: string | null; readonly max_radius_m: number };
}

export interface LonLat {
  readonly lon: number;
  readonly lat: number;
}

export interface NearbyCustomer {
  readonly id: string;
  readonly site_id: string;
  readonly name: string;
  readonly kind?: string;
  readonly stage?: string;
  readonly distance_m: number;
  readonly bearing_deg: number | null;
  readonly location: LonLat;
  readonly precision_m?: number | null;
  readonly location_precision?: string | null;
  readonly territory?: Named | null;
}

export interface CustomerRow {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly stage: string;
  readonly owner: Named | null;
  readonly territories: readonly Named[];
  readonly site: Site | null;
}

export interface Site {
  readonly id: string;
  readonly label: string | null;
  readonly line1: string | null;
  readonly line2: string | null;
  readonly city: string | null;
  readonly region: string | null;
  readonly postal_code: string | null;
  readonly country: string | null;
  readonly location: LonLat | null;
  readonly location_precision: string | null;
  readonly precision_m: number | null;
  readonly location_source: string | null;
  readonly placement: string;
  readonly flags: readonly string[];
  readonly is_primary: boolean;
  readonly territory: Named | null;
}

export interface Contact {
  readonly id: string;
  readonly name: string | null;
  readonly role: string | null;
  readonly email: string | null;
  readonly phone: string | null;
  readonly email_masked: boolean;
  readonly phone_masked: boolean;
}

export interface Customer {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly stage: string;
  readonly industry: string | null;
  readonly size_class: string | null;
  readonly preferred_channel: string | null;
  readonly owner: Named | null;
  readonly parent: Named | null;
  readonly sites: readonly Site[];
  readonly contacts: readonly Contact[];
}

/** One row of the ledger: who had a site, on which layer, when, and why. */
export interface Assignment {
  readonly layer?: string | null;
  readonly site_id?: string | null;
  readonly territory: Named | null;
  readonly owner?: Named | null;
  readonly basis: string;
  readonly reason?: string | null;
  readonly valid_from: string;
  readonly valid_to?: string | null;
}

export interface Sale {
  readonly id: string;
  readonly occurred_at: string;
  readonly amount: string;
  readonly currency: string;
  readonly channel?: string | null;
  readonly returned?: boolean | string | null;
}

export interface Interaction {
  readonly id: string;
  readonly kind: string;
  readonly channel?: string | null;
  readonly direction?: string | null;
  readonly occurred_at: string;
  readonly subject?: string | null;
  readonly body?: string | null;
  readonly outcome?: string | null;
}

export interface Place {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly location: LonLat | null;
}

export interface LayerInfo {
  readonly id: string;
  readonly name: string;
  readonly is_primary?: boolean;
  readonly exclusive?: boolean;
}

export interface Area {
  readonly id: string;
  readonly name: string;
  readonly owner?: Named | null;
}

export interface TileJson {
  readonly bounds?: readonly [number, number, number, number];
}

export interface List<T> {
  readonly data: readonly T[];
  readonly has_more: boolean;
  readonly next_cursor?: string | null;
}
