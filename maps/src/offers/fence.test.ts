import { describe, expect, it } from 'vitest';
import type { Fence } from '../api/shapes';
import { drawnOf, fenceBody, keepsShape } from './fence';

const SQUARE = [
  [8, 47],
  [9, 47],
  [9, 48],
  [8, 47],
];
const FENCE = {
  tag: 'shops',
  external_id: 'denver-1',
  name: 'Union Station',
  geometry: { type: 'MultiPolygon', coordinates: [[SQUARE]] },
  center: { lon: -104.9995, lat: 39.7527 },
  radius_m: 150,
  dwell_s: 90,
  hours: [{ days: ['mon', 'fri'], from: '09:00', to: '24:00' }],
  time_zone: 'America/Denver',
  metadata: { shop: '42', floors: 3 },
} as unknown as Fence;
const POLYGON = { ...FENCE, center: null, radius_m: null } as Fence;

describe('the form of a fence', () => {
  it('comes back as what it was', () => {
    const { body, faults } = fenceBody(drawnOf(FENCE, 'UTC'), FENCE);
    expect(faults).toEqual([]);
    expect(body).toEqual({
      center: { lon: -104.9995, lat: 39.7527 },
      radius_m: 150,
      name: 'Union Station',
      dwell_s: 90,
      hours: [{ days: ['mon', 'fri'], from: '09:00', to: '24:00' }],
      time_zone: 'America/Denver',
      metadata: { shop: '42', floors: 3 },
    });
    expect(fenceBody(drawnOf(POLYGON, 'UTC'), POLYGON).body.geometry).toEqual({
      type: 'Polygon',
      coordinates: [SQUARE],
    });
  });

  it('keeps a shape of several rings until corners are put in its place', () => {
    const hole = {
      ...POLYGON,
      geometry: { type: 'MultiPolygon', coordinates: [[SQUARE, SQUARE]] },
    } as unknown as Fence;
    const form = drawnOf(hole, 'UTC');
    expect(keepsShape(hole, form)).toBe(true);
    expect(fenceBody(form, hole).body.geometry).toBe(hole.geometry);
    const anew = { ...form, corners: [{ lon: 1, lat: 2 }] };
    expect(fenceBody(anew, hole).faults.map(({ pointer }) => pointer)).toEqual(['/geometry']);
  });

  it('says no time zone where there are no hours', () => {
    const made = { ...drawnOf(null, 'Europe/Zurich'), name: 'x', centre: { lon: 8, lat: 47 } };
    expect(fenceBody(made, null).body).toMatchObject({ hours: null, time_zone: null, dwell_s: null, metadata: {} });
    const open = { ...made, hours: [{ days: ['sat' as const], from: '09:00', to: '12:00' }] };
    expect(fenceBody(open, null).body.time_zone).toBe('Europe/Zurich');
  });

  it.each([
    [{ tag: 'My shops' }, '/tag'],
    [{ id: 'a b' }, '/external_id'],
    [{ name: ' ' }, '/name'],
    [{ dwell: '0' }, '/dwell_s'],
    [{ radius: 'wide' }, '/radius_m'],
    [{ centre: null }, '/geometry'],
    [{ hours: [{ days: [], from: '09:00', to: '12:00' }] }, '/hours/0/days'],
    [{ metadata: [...'aa'].map((name) => ({ name, value: '1' })) }, '/metadata'],
  ])('says what is wrong with %o', (part, pointer) => {
    expect(fenceBody({ ...drawnOf(FENCE, 'UTC'), ...part }, FENCE).faults.map((fault) => fault.pointer)).toEqual([
      pointer,
    ]);
  });
});
