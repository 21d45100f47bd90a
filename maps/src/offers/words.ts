/** Where an offer stands, where and when it holds, and why not, in words. Pure. */

import type { Fence, Offer, OfferVersion, OfferWhere, OtherOffer } from '../api/shapes';
import { count, date, distance, words } from '../format';
import { type Opening, openingAt } from './opening';
import { lasting } from './walks';

export type Reason = OtherOffer['reasons'][number];

/** What an offer says: what is live or was last, else the draft. */
export const said = (offer: Pick<Offer, 'live' | 'draft'>): OfferVersion | null => offer.live ?? offer.draft;

/** Where an offer stands, in a word and a sentence. */
export function standing(
  offer: Pick<Offer, 'status' | 'live' | 'draft' | 'ended_at'>,
  now: Date,
): { word: string; means: string } {
  if (offer.status === 'ended')
    return { word: 'Ended', means: `It ended on ${date(offer.ended_at)}. Nobody has it any more.` };
  if (offer.status === 'draft') return { word: 'Draft', means: 'Nobody has it before it is set live.' };
  const { starts_at = null, ends_at = null } = offer.live ?? {};
  if (starts_at && new Date(starts_at) > now)
    return { word: 'Live, not begun', means: `It begins on ${date(starts_at)}.` };
  if (ends_at && new Date(ends_at) <= now) return { word: 'Over', means: `It was over on ${date(ends_at)}.` };
  const waits = offer.draft ? ' A draft waits to take its place.' : '';
  const opening: Opening = offer.live ? openingAt(offer.live, now) : { open: true };
  if (opening.open) return { word: 'Live', means: `Customers have it.${waits}` };
  const then = opening.opens
    ? `It opens ${moment(opening.opens, offer.live?.time_zone ?? null)}.`
    : 'It opens no more before its end.';
  return { word: 'Live, closed now', means: then + waits };
}

/** A moment on the clock of a time zone, with the zone's short name. */
export function moment(text: string, zone: string | null): string {
  const options: Intl.DateTimeFormatOptions = {
    year: 'numeric',
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'short',
  };
  try {
    return new Intl.DateTimeFormat('en', { ...options, timeZone: zone ?? 'UTC' }).format(new Date(text));
  } catch {
    // A zone that this browser does not know.
    return new Intl.DateTimeFormat('en', { ...options, timeZone: 'UTC' }).format(new Date(text));
  }
}

/** From when to when. */
export function validity({ starts_at, ends_at, time_zone }: OfferVersion): string {
  const until = ends_at ? `until ${moment(ends_at, time_zone)}` : 'without an end yet';
  return starts_at ? `from ${moment(starts_at, time_zone)} ${until}` : until;
}

/** Until when an offer holds, or from when, or when it ended, in a few words for lists. */
export function term({ starts_at, ends_at }: OfferVersion, now: Date, ended_at: string | null = null): string {
  if (ended_at) return `ended on ${date(ended_at)}`;
  const until = ends_at ? `until ${date(ends_at)}` : 'no end yet';
  return starts_at && new Date(starts_at) > now ? `from ${date(starts_at)} ${until}` : until;
}

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Day = (typeof DAYS)[number];
export const WEEK: readonly Day[] = DAYS;

/** "Mon to Fri", "Sat, Sun", "every day". */
export function dayWords(days: readonly string[]): string {
  const places = [...new Set(days.map((day) => DAYS.indexOf(day as Day)))].filter((n) => n >= 0).sort((a, b) => a - b);
  if (places.length === 7) return 'every day';
  const name = (place: number | undefined) => words(DAYS[place ?? 0] ?? '');
  const [first = 0] = places;
  const last = places.at(-1) ?? 0;
  if (places.length > 2 && last - first === places.length - 1) return `${name(first)} to ${name(last)}`;
  return places.map(name).join(', ');
}

interface Span {
  readonly days?: unknown;
  readonly from?: unknown;
  readonly to?: unknown;
}

/** At which hours; null where at any. */
export function hoursWords(hours: readonly Span[] | null): string | null {
  if (!hours || hours.length === 0) return null;
  return hours
    .map(({ days, from, to }) => `${dayWords(Array.isArray(days) ? (days as string[]) : [])} ${from}–${to}`)
    .join('; ');
}

/** What a fence is: its shape, when it tells of staying, its hours. */
export function fenceWords(fence: Fence): string {
  const shape = fence.radius_m === null ? 'polygon' : `${distance(fence.radius_m)} around a point`;
  const stay = fence.dwell_s === null ? null : `tells who stays ${lasting(fence.dwell_s)}`;
  const hours = hoursWords(fence.hours);
  return [shape, stay, hours && `${hours} (${fence.time_zone})`].filter(Boolean).join(' · ');
}

const PLACE_KINDS: Readonly<Record<string, string>> = {
  own: 'every own shop',
  competitor: 'every competitor',
  depot: 'every depot',
  branch: 'every branch',
};

/** One of the things that an offer holds in or around. */
export function onePlace(where: Partial<OfferWhere>): string {
  const around = where.radius_m ? `${distance(where.radius_m)} around ` : '';
  if (where.place_kind) return around + (PLACE_KINDS[where.place_kind] ?? `every ${where.place_kind}`);
  if (where.geofence_tag) return `every fence “${where.geofence_tag}”`;
  return around + (where.name ?? where.geofence ?? where.area_id ?? where.place_id ?? 'a place');
}

/** Where an offer holds, in a line; the first of many by name. */
export function whereWords(areas: readonly Partial<OfferWhere>[], most = 2): string {
  if (areas.length === 0) return 'everywhere';
  const named = areas.slice(0, most).map(onePlace);
  return areas.length > most ? `${named.join(', ')} and ${count(areas.length - most)} more` : named.join(', ');
}

/** How often it was redeemed, of how many. */
export function redeemedWords(offer: Pick<Offer, 'redeemed' | 'live' | 'draft'>): string {
  const cap = said(offer)?.cap_total ?? null;
  return cap === null ? `${count(offer.redeemed)} redeemed` : `${count(offer.redeemed)} of ${count(cap)} redeemed`;
}

export const percent = (share: number): string => `${Number((share * 100).toFixed(1))} %`;

/** Who is held out; null where nobody is. */
export function holdOutWords({ hold_out_share, hold_out_unit }: OfferVersion): string | null {
  if (hold_out_share <= 0) return null;
  return `${percent(hold_out_share)} of ${hold_out_unit === 'area' ? 'areas' : 'customers'} held out`;
}

/** What is left under the caps; null where there is none. */
export function leftWords(left: { in_all: number | null; for_customer: number | null }): string | null {
  const parts = [
    left.in_all === null ? null : `${count(left.in_all)} left in all`,
    left.for_customer === null ? null : `${count(left.for_customer)} left for this customer`,
  ].filter((part) => part !== null);
  return parts.length > 0 ? parts.join(', ') : null;
}

const REASONS: Readonly<Record<Reason['reason'], (reason: Reason, zone: string | null) => string>> = {
  not_started: ({ opens_at }, zone) => (opens_at ? `begins ${moment(opens_at, zone)}` : 'has not begun'),
  over: () => 'is over',
  closed: ({ opens_at }, zone) =>
    opens_at ? `closed now, opens ${moment(opens_at, zone)}` : 'closed now, and for good',
  no_position: () => 'holds somewhere, and the point is not known',
  outside: ({ distance_m }) => (distance_m === undefined ? 'outside' : `outside by ${distance(distance_m)}`),
  needs_exact_places: () => 'asks where customers are, which this key may not know exactly',
  not_in_audience: () => 'not in its audience',
  no_consent: ({ purpose }) => `has not consented to ${purpose ?? 'this'}`,
  cap_reached: () => 'all of it is redeemed',
  customer_cap_reached: () => 'has had it as often as one may',
  held_out: () => 'held out, so that its effect can be measured',
};

export const REASON_NAMES: readonly string[] = Object.keys(REASONS);

/** Why a customer does not have an offer. A reason of a later version is called by its own name. */
export function reasonWords(reason: Reason, zone: string | null): string {
  return REASONS[reason.reason]?.(reason, zone) ?? words(reason.reason).toLowerCase();
}

const FIELD_NAMES: Readonly<Record<string, string>> = {
  name: 'Name',
  campaign_id: 'Campaign',
  attributes: 'For the app',
  title: 'Title',
  terms: 'Terms',
  product_ids: 'Products',
  ends_at: 'Until',
  starts_at: 'From',
  time_zone: 'Time zone',
  hours: 'Hours',
  areas: 'Where',
  audience: 'For whom',
  cap_per_customer: 'For each customer',
  cap_total: 'In all',
  closed_on: 'Closed on a day',
  priority: 'Priority',
  consent_purpose: 'Consent',
  hold_out_unit: 'Hold-out',
  hold_out_share: 'Hold-out',
};

/** What the API warns of, each in a sentence; it stands in the way of nothing. */
export const warningWords = (warnings: readonly { pointer: string; detail: string }[]): readonly string[] =>
  warnings.map(({ pointer, detail }) => `${fieldName(pointer)}: ${detail}.`);

/** The field of the form that a pointer of the API is of. */
export const fieldName = (pointer: string): string => {
  const [, name = ''] = pointer.split('/');
  return FIELD_NAMES[name] ?? name;
};
