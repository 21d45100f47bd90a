/** What the application can show, as data. Everything here is in the address of the page. */

/** Dimensions of customers that the map can be coloured by; each has a filter of its own. */
export const COLOUR_FIELDS = ['stage', 'owner', 'territory', 'segment'] as const;
export type ColourField = (typeof COLOUR_FIELDS)[number];
export const COLOUR_KEYS = [...COLOUR_FIELDS, 'score'] as const;
export type ColourKey = (typeof COLOUR_KEYS)[number];

export const PANELS = ['key', 'near', 'here', 'segments', 'offers', 'search', 'account', 'developers'] as const;
export type Panel = (typeof PANELS)[number];

export const LAYERS = ['customers', 'territories', 'places'] as const;
export type Layer = (typeof LAYERS)[number];

export const STAGES = ['prospect', 'lead', 'active', 'lapsed'] as const;
export const KINDS = ['person', 'organisation'] as const;

/** Longitude, latitude in degrees (WGS 84). */
export interface Point {
  readonly lon: number;
  readonly lat: number;
}

export interface View extends Point {
  readonly zoom: number;
}

export const FILTER_FIELDS = ['stage', 'kind', 'owner', 'territory', 'segment'] as const;
export type FilterField = (typeof FILTER_FIELDS)[number];

/** The short forms of the filter language: any of the values of each field; an empty list filters nothing. */
export interface Filters extends Readonly<Record<FilterField, readonly string[]>> {
  /** One more condition of the filter language, as JSON: a range of a score, a rule. Without an index, so slower. */
  readonly where: string | null;
}
export const NO_FILTERS: Filters = { stage: [], kind: [], owner: [], territory: [], segment: [], where: null };

export interface Near extends Point {
  /** Where the point comes from, to say so. */
  readonly from: 'position' | 'map' | 'typed';
}

export interface State {
  /** null until the first view is known: then the map shows all customers. */
  readonly view: View | null;
  readonly panel: Panel | null;
  readonly colour: ColourKey;
  /** The score to colour by, KEY.NAME, whether it is chosen as colour now or not; null where none was. */
  readonly score: string | null;
  readonly filters: Filters;
  readonly hidden: readonly Layer[];
  /** The customer whose card is open. */
  readonly customer: string | null;
  readonly near: Near | null;
  /** How far to look around; null for as far as it takes to find somebody. */
  readonly radius_m: number | null;
  /** The point whose territories are asked for, and the day (YYYY-MM-DD), null for today. */
  readonly here: Point | null;
  readonly as_of: string | null;
  readonly query: string;
  /** The segmentation that the panel of segments shows, or a new one of a method; null for the list. */
  readonly segmentation: string | null;
  /** The number of the run that is looked at; null for the published one, else the newest. */
  readonly run: number | null;
  /** What the panel of offers shows: an offer, a new one, or a tool of it; null for the list. */
  readonly offer: string | null;
  /** The customer and the point that offers are tried with. */
  readonly who: string | null;
  readonly spot: Point | null;
  /** What the panel for developers shows: a key, a webhook, a new one, or requests to try; null for the list. */
  readonly tool: string | null;
}

/** The point that the search around is drawn from; one's own position is drawn without its list too. */
export function originOf(
  { near, panel }: Pick<State, 'near' | 'panel'>,
  searched_m: number | null,
): (Near & { readonly radius_m: number | null }) | null {
  if (near && panel === 'near') return { ...near, radius_m: searched_m };
  return near?.from === 'position' ? { ...near, radius_m: null } : null;
}

export const RADII_M = [1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000] as const;
/** The first circle in which to look for somebody. */
export const FIRST_RADIUS_M = 10_000;

/** The smallest circle, from the first on, that reaches the nearest customer; null where no circle does. */
export function reaching(nearest_m: number): number | null {
  return RADII_M.find((radius) => radius >= FIRST_RADIUS_M && radius >= nearest_m) ?? null;
}

export const START: State = {
  view: null,
  panel: null,
  colour: 'stage',
  score: null,
  filters: NO_FILTERS,
  hidden: [],
  customer: null,
  near: null,
  radius_m: null,
  here: null,
  as_of: null,
  query: '',
  segmentation: null,
  run: null,
  offer: null,
  who: null,
  spot: null,
  tool: null,
};

/** The values chosen for a field after one of them was switched on or off. */
export function toggled(values: readonly string[], value: string): readonly string[] {
  return values.includes(value) ? values.filter((v) => v !== value) : [...values, value].sort();
}

export function isFiltered(filters: Filters): boolean {
  return filters.where !== null || FILTER_FIELDS.some((field) => filters[field].length > 0);
}

/** A point from what a person typed: "lon, lat" or "lon lat" in degrees; null where it is none. */
export function parsePoint(text: string): Point | null {
  const parts = text
    .trim()
    .split(/[\s,;]+/)
    .filter((part) => part !== '');
  if (parts.length !== 2) return null;
  const [lon, lat] = parts.map(Number) as [number, number];
  return isPoint(lon, lat) ? { lon, lat } : null;
}

export function isPoint(lon: number, lat: number): boolean {
  return Number.isFinite(lon) && Number.isFinite(lat) && Math.abs(lon) <= 180 && Math.abs(lat) <= 90;
}
