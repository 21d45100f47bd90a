import { expect, it } from 'vitest';
import { openingAt } from './opening';

const WORKDAYS = [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '09:00', to: '18:00' }];
const said = (part: object) => ({
  hours: WORKDAYS,
  closed_on: [],
  time_zone: 'America/Denver',
  ends_at: null,
  ...part,
});
const NIGHT = [{ days: ['sat'], from: '20:00', to: '02:00' }];

// 2026-11-22 is a Sunday; Denver is seven hours behind UTC.
it.each([
  ['on a Sunday', {}, '2026-11-22T18:00:00Z', '2026-11-23T16:00:00.000Z'],
  ['within its hours', {}, '2026-11-23T16:00:00Z', 'open'],
  ['as they end', {}, '2026-11-24T01:00:00Z', '2026-11-24T16:00:00.000Z'],
  ['where the next day is closed', { closed_on: ['2026-11-23'] }, '2026-11-22T18:00:00Z', '2026-11-24T16:00:00.000Z'],
  ['after its last hour', { ends_at: '2026-11-23T10:00:00Z' }, '2026-11-22T18:00:00Z', null],
  ['past midnight', { hours: NIGHT }, '2026-11-22T08:30:00Z', 'open'],
  ['after midnight is over', { hours: NIGHT }, '2026-11-22T09:00:00Z', '2026-11-29T03:00:00.000Z'],
  [
    'on a closed day without hours',
    { hours: null, closed_on: ['2026-11-22'] },
    '2026-11-22T18:00:00Z',
    '2026-11-23T07:00:00.000Z',
  ],
  ['at any hour', { hours: null }, '2026-11-22T18:00:00Z', 'open'],
])('knows when it opens %s', (_, part, now, expected) => {
  const opening = openingAt(said(part), new Date(now));
  expect(opening.open ? 'open' : opening.opens).toBe(expected);
});
