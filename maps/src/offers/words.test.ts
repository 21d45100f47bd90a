import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Offer, OfferVersion } from '../api/shapes';
import {
  dayWords,
  hoursWords,
  leftWords,
  moment,
  onePlace,
  REASON_NAMES,
  type Reason,
  reasonWords,
  redeemedWords,
  standing,
  term,
  whereWords,
} from './words';

const version = (change: Partial<OfferVersion>): OfferVersion =>
  ({ ends_at: null, starts_at: null, hours: null, closed_on: [], ...change }) as OfferVersion;
const NOW = new Date('2026-03-10T12:00:00Z');

it('has words for every reason of the API', () => {
  const described = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));
  const answer = described.paths['/v1/offers/eligible'].get.responses['200'].content['application/json'].schema;
  const reasons: string[] = answer.properties.others.items.properties.reasons.items.properties.reason.enum;
  expect(reasons.length).toBeGreaterThan(8);
  expect(reasons.filter((reason) => !REASON_NAMES.includes(reason))).toEqual([]);
});

it.each([
  [{ reason: 'outside', distance_m: 340.2 }, 'outside by 340 m'],
  [{ reason: 'outside', distance_m: 12_340 }, 'outside by 12 km'],
  [{ reason: 'closed', opens_at: '2026-03-11T13:00:00Z' }, 'closed now, opens Mar 11, 2026, 07:00 MDT'],
  [{ reason: 'no_consent', purpose: 'marketing' }, 'has not consented to marketing'],
  [{ reason: 'of_later' }, 'of later'],
] as const)('says why not: %o', (reason, said) => {
  expect(reasonWords(reason as unknown as Reason, 'America/Denver')).toBe(said);
});

describe('standing', () => {
  const offer = (status: string, live: Partial<OfferVersion> | null, draft: OfferVersion | null = null) =>
    standing({ status, live: live && version(live), draft } as Offer, NOW).word;
  it('is by status and by the day', () => {
    expect(offer('draft', null)).toBe('Draft');
    expect(offer('ended', {})).toBe('Ended');
    expect(offer('live', { ends_at: '2026-04-01T00:00:00Z' })).toBe('Live');
    expect(offer('live', { starts_at: '2026-03-11T00:00:00Z' })).toBe('Live, not begun');
    expect(offer('live', { ends_at: '2026-03-10T12:00:00Z' })).toBe('Over');
    expect(offer('live', { hours: [{ days: ['mon'], from: '07:00', to: '11:00' }] })).toBe('Live, closed now');
  });
});

describe('days and hours', () => {
  it('are told as people say them', () => {
    expect(dayWords(['mon', 'tue', 'wed', 'thu', 'fri'])).toBe('Mon to Fri');
    expect(dayWords(['sun', 'sat'])).toBe('Sat, Sun');
    expect(dayWords(['mon', 'wed', 'fri'])).toBe('Mon, Wed, Fri');
    expect(dayWords(['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'])).toBe('every day');
    expect(hoursWords(null)).toBeNull();
    expect(hoursWords([{ days: ['mon'], from: '07:00', to: '11:00' }])).toBe('Mon 07:00–11:00');
    expect(moment('2026-07-01T20:00:00Z', 'Nowhere/Land')).toBe('Jul 1, 2026, 20:00 UTC');
    expect(term(version({ ends_at: '2026-03-31T00:00:00Z', starts_at: '2026-03-01T00:00:00Z' }), NOW)).toBe(
      'until Mar 31, 2026',
    );
    expect(term(version({ ends_at: '2026-03-31T00:00:00Z' }), NOW, '2026-03-09T00:00:00Z')).toBe(
      'ended on Mar 9, 2026',
    );
  });
});

describe('where', () => {
  it('is told by names', () => {
    const shops = { place_kind: 'own', radius_m: 300 };
    expect(whereWords([])).toBe('everywhere');
    expect(onePlace(shops)).toBe('300 m around every own shop');
    expect(onePlace({ geofence_tag: 'shops' })).toBe('every fence “shops”');
    expect(whereWords([{ name: 'Denver' }, shops, { name: 'Zion' }])).toBe(
      'Denver, 300 m around every own shop and 1 more',
    );
  });
});

it('tells what is left and what was redeemed', () => {
  expect(leftWords({ in_all: null, for_customer: null })).toBeNull();
  expect(leftWords({ in_all: 1200, for_customer: 1 })).toBe('1,200 left in all, 1 left for this customer');
  expect(redeemedWords({ redeemed: 3, live: version({ cap_total: 50 }), draft: null })).toBe('3 of 50 redeemed');
});
