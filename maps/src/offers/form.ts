/** An offer as the fields of a form, and as the API takes it. Pure. */

import type { Problem } from '../api/client';
import type { OfferChange } from '../api/routes';
import type { OfferVersion, OfferWhere } from '../api/shapes';
import { type Draft, draftOf, emptyDraft, type Field, filterOf } from '../segments/rules';
import { heldBy, type Pair, pairFaults, pairsOf } from './pairs';
import type { Day } from './words';
import { momentOf, wallOf } from './zoned';

export interface HoursRow {
  readonly days: readonly Day[];
  readonly from: string;
  readonly to: string;
}

export type Area = Partial<OfferWhere>;

export interface Form {
  readonly name: string;
  /** `cam_7`; empty: of none. */
  readonly campaign: string;
  readonly title: string;
  readonly terms: string;
  /** What the app is given as `attributes`: the code, and the others by their names. */
  readonly code: string;
  readonly pairs: readonly Pair[];
  readonly products: readonly string[];
  readonly who: 'everybody' | 'conditions' | 'list';
  readonly audience: Draft;
  /** Of a list that automations fill: its id. */
  readonly list: string;
  /** Empty: no consent is needed. */
  readonly consent: string;
  readonly areas: readonly Area[];
  readonly zone: string;
  /** On the clock of the zone; empty: from when it goes live, or not said yet. */
  readonly starts: string;
  readonly ends: string;
  /** None: at any hour. */
  readonly hours: readonly HoursRow[];
  readonly closed: readonly string[];
  /** Empty: no cap. */
  readonly capTotal: string;
  readonly capEach: string;
  readonly priority: string;
  /** Per cent. */
  readonly holdOut: string;
  readonly unit: 'customer' | 'area';
}

/** The form of a version, or of a new offer in a time zone. */
export function formOf(
  name: string,
  version: OfferVersion | null,
  zone: string,
  fields: ReadonlyMap<string, Field>,
  campaign: string | null = null,
): Form {
  const own = version?.time_zone ?? zone;
  const wall = (moment: string | null | undefined) => (moment ? (wallOf(moment, own) ?? '') : '');
  const number = (value: number | null | undefined) => (value === null || value === undefined ? '' : String(value));
  const audience = version?.audience ?? null;
  const list = listOf(audience);
  const { code, ...others } = version?.attributes ?? {};
  const coded = typeof code === 'string';
  return {
    name,
    campaign: campaign ?? '',
    title: version?.title ?? '',
    terms: version?.terms ?? '',
    code: coded ? code : '',
    pairs: pairsOf(coded || code === undefined ? others : { code, ...others }),
    products: version?.product_ids ?? [],
    who: audience === null ? 'everybody' : list === null ? 'conditions' : 'list',
    audience: audience === null || list !== null ? emptyDraft('') : draftOf('', audience, fields),
    list: list ?? '',
    consent: version ? (version.consent_purpose ?? '') : 'marketing',
    areas: version?.areas ?? [],
    zone: own,
    starts: wall(version?.starts_at),
    ends: wall(version?.ends_at),
    hours: hoursOf(version?.hours),
    closed: version?.closed_on ?? [],
    capTotal: number(version?.cap_total),
    capEach: number(version?.cap_per_customer),
    priority: number(version?.priority ?? 0),
    holdOut: version ? String(Number((version.hold_out_share * 100).toFixed(4))) : '10',
    unit: version?.hold_out_unit === 'area' ? 'area' : 'customer',
  };
}

export interface Fault {
  /** The field of the API, such as /ends_at. */
  readonly pointer: string;
  readonly detail: string;
}

export const RADIUS = '1 to 100,000 metres';

/** Whether so many metres can be told around a place. */
export const isRadius = (metres: number | null | undefined): metres is number =>
  typeof metres === 'number' && metres >= 1 && metres <= 100_000;

/** The fields in the order of the form, by their pointers. */
export const FIELDS: readonly string[] = [
  '/name',
  '/title',
  '/terms',
  '/attributes',
  '/product_ids',
  '/audience',
  '/consent_purpose',
  '/areas',
  '/time_zone',
  '/starts_at',
  '/ends_at',
  '/hours',
  '/closed_on',
  '/cap_total',
  '/cap_per_customer',
  '/priority',
  '/hold_out_share',
  '/hold_out_unit',
  '/campaign_id',
];

const placeOf = ({ pointer }: Fault): number => {
  const place = FIELDS.findIndex((field) => pointer === field || pointer.startsWith(`${field}/`));
  return place < 0 ? FIELDS.length : place;
};

/** Faults in the order in which the form shows them. */
export const inOrder = (faults: readonly Fault[]): readonly Fault[] =>
  faults.toSorted((a, b) => placeOf(a) - placeOf(b));

/** Whether the form has a field for it. */
export const hasField = (fault: Fault): boolean => placeOf(fault) < FIELDS.length;

const WHOLE = /^-?\d{1,15}$/;

/** What the API says is wrong, by its fields. */
export function faultsMet({ errors }: Problem): readonly Fault[] {
  return errors.map(({ pointer = '', detail = '' }) => ({ pointer, detail }));
}

/** Who may have it, as a filter of the API; null for everybody, and where it is not told whole. */
export function audienceOf(form: Form, fields: ReadonlyMap<string, Field>): object | null {
  if (form.who === 'conditions') return filterOf(form.audience, fields);
  return form.who === 'list' && form.list !== '' ? { audience: form.list } : null;
}

/** What the API is sent, and what the form itself knows to be wrong. */
export function bodyOf(
  form: Form,
  fields: ReadonlyMap<string, Field>,
  now = new Date(),
): { readonly body: OfferChange & { name: string }; readonly faults: readonly Fault[] } {
  const faults: Fault[] = [];
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail });
  const whole = (pointer: string, text: string, least: number): number | null => {
    const trimmed = text.trim();
    if (trimmed === '') return null;
    if (WHOLE.test(trimmed) && Number(trimmed) >= least) return Number(trimmed);
    fault(pointer, least > 0 ? `a whole number from ${least} on, or nothing` : 'a whole number');
    return null;
  };
  const at = (pointer: string, wall: string): string | null => {
    if (wall === '') return null;
    const moment = momentOf(wall, form.zone);
    if (moment === null) fault(pointer, 'a day and a time, on the clock of the time zone');
    return moment;
  };
  const share = Number(form.holdOut.trim() === '' ? '0' : form.holdOut);
  if (!(share >= 0 && share <= 90)) fault('/hold_out_share', 'a number of per cent, from 0 to 90');
  for (const [place, area] of form.areas.entries()) {
    if ((area.place_id || area.place_kind) && !isRadius(area.radius_m)) fault(`/areas/${place}/radius_m`, RADIUS);
  }
  const audience = audienceOf(form, fields);
  if (form.who === 'conditions' && audience === null)
    fault('/audience', 'a condition is needed, and every one of them whole');
  if (form.who === 'list' && audience === null) fault('/audience', 'choose the list');
  if (form.name.trim() === '') fault('/name', 'a name is needed, so that you find it again');
  faults.push(...hoursFaults(form.hours), ...pairFaults(form.pairs, '/attributes'));
  const said = (text: string) => (text.trim() === '' ? null : text.trim());
  const ends_at = at('/ends_at', form.ends);
  if (ends_at !== null && new Date(ends_at) <= now) fault('/ends_at', 'this moment is past: choose a later one');
  return {
    body: {
      name: form.name.trim(),
      title: said(form.title),
      terms: said(form.terms),
      campaign_id: form.campaign === '' ? null : form.campaign,
      attributes: { ...heldBy(form.pairs), ...(form.code.trim() === '' ? {} : { code: form.code.trim() }) },
      product_ids: [...form.products],
      audience: audience as Record<string, unknown> | null,
      consent_purpose: said(form.consent),
      areas: form.areas.map(sent),
      starts_at: at('/starts_at', form.starts),
      ends_at,
      time_zone: form.zone,
      hours: hoursSent(form.hours),
      closed_on: [...form.closed],
      cap_total: whole('/cap_total', form.capTotal, 1),
      cap_per_customer: whole('/cap_per_customer', form.capEach, 1),
      priority: whole('/priority', form.priority, Number.NEGATIVE_INFINITY) ?? 0,
      hold_out_share: Number.isFinite(share) ? Number((share / 100).toFixed(6)) : 0,
      hold_out_unit: form.unit,
    },
    faults,
  };
}

/** The list that is all of an audience; null for another audience. */
export function listOf(audience: unknown): string | null {
  const said = audience as { audience?: unknown; all?: readonly unknown[] } | null;
  const [only] = said?.all ?? [];
  const named = said?.all?.length === 1 ? (only as { audience?: unknown }).audience : said?.audience;
  return typeof named === 'string' ? named : null;
}

const MIDNIGHT = '00:00';

/** Hours as rows of a form, whose fields know no 24:00. */
export const hoursOf = (hours: unknown): readonly HoursRow[] =>
  ((hours ?? []) as HoursRow[]).map(({ days, from, to }) => ({ days, from, to: to === '24:00' ? MIDNIGHT : to }));

/** The same as the API takes them; null for none, which is at any hour. */
export const hoursSent = (hours: readonly HoursRow[]) =>
  hours.length === 0
    ? null
    : hours.map(({ days, from, to }) => ({ days: [...days], from, to: to === MIDNIGHT ? '24:00' : to }));

/** What is wrong with hours. */
export const hoursFaults = (hours: readonly HoursRow[]): readonly Fault[] =>
  hours.flatMap(({ days }, row) =>
    days.length === 0 ? [{ pointer: `/hours/${row}/days`, detail: 'choose a day of the week' }] : [],
  );

/** The one thing that names an area of an offer, and its radius. */
function sent({ area_id, geofence, geofence_tag, place_id, place_kind, radius_m }: Area): object {
  if (area_id) return { area_id };
  if (geofence) return { geofence };
  if (geofence_tag) return { geofence_tag };
  return place_id ? { place_id, radius_m } : { place_kind, radius_m };
}

/** What two areas of an offer are the same by. */
export const areaKey = (area: Area): string => JSON.stringify(sent(area));

/** With one more area, or without it where it was there. */
export function toggledArea(areas: readonly Area[], area: Area): readonly Area[] {
  const key = areaKey(area);
  return areas.some((other) => areaKey(other) === key)
    ? areas.filter((other) => areaKey(other) !== key)
    : [...areas, area];
}

/** The faults that belong to a field: of it or of a part of it. */
export function faultsOf(faults: readonly Fault[], ...pointers: readonly string[]): readonly Fault[] {
  return faults.filter(({ pointer }) => pointers.some((one) => pointer === one || pointer.startsWith(`${one}/`)));
}
