import { describe, expect, it } from 'vitest';
import {
  apart,
  durationOf,
  fixesOf,
  lasting,
  lengthOf,
  MOST,
  numbered,
  numbers,
  placeAt,
  spacing,
  sureness,
  type Walk,
} from './walks';

const NORTH: Walk = {
  path: [
    { lon: 8.5, lat: 47 },
    { lon: 8.5, lat: 47.01 },
  ],
  speed: 2,
  every_s: 10,
  rest_s: 30,
  accuracy_m: 20,
  seed: 7,
};

describe('a walk', () => {
  it('goes along its path at its speed and rests at its corners', () => {
    expect(lengthOf(NORTH.path)).toBeCloseTo(1113.2, 0);
    expect(durationOf(NORTH)).toBeCloseTo(1113.2 / 2 + 60, 0);
    expect(placeAt(NORTH, 29)).toEqual(NORTH.path[0]);
    expect(placeAt(NORTH, 30 + 1113.2 / 4)?.lat).toBeCloseTo(47.005, 5);
    expect(placeAt(NORTH, 1e9)).toEqual(NORTH.path[1]);
    expect(placeAt({ ...NORTH, path: [] }, 0)).toBeNull();
  });

  it('is told by fixes at intervals, from the start to the end', () => {
    const fixes = fixesOf(NORTH);
    expect(fixes[0]?.at_s).toBe(0);
    expect(fixes[1]?.at_s).toBe(10);
    expect(fixes.at(-1)?.at_s).toBeCloseTo(durationOf(NORTH), 6);
    expect(fixesOf({ ...NORTH, path: NORTH.path.slice(1) })).toEqual([]);
  });

  it('jitters as its accuracy says: 68 % lie within it', () => {
    const long = { ...NORTH, every_s: 1, rest_s: 700 };
    const fixes = fixesOf(long);
    const within = fixes.filter((fix) => apart(fix, placeAt(long, fix.at_s) ?? fix) <= long.accuracy_m).length;
    expect(fixes.length).toBeGreaterThan(1900);
    // 99.9 % of the binomial lie within 0.68 ± 0.035
    expect(Math.abs(within / fixes.length - 0.68)).toBeLessThan(0.035);
  });

  it('is the same for the same seed, and another for another', () => {
    expect(fixesOf(NORTH)).toEqual(fixesOf(NORTH));
    expect(fixesOf({ ...NORTH, seed: 8 })).not.toEqual(fixesOf(NORTH));
    expect(numbers(1)()).not.toBe(numbers(2)());
  });

  it('never has more fixes than the API takes', () => {
    const slow = { ...NORTH, every_s: 0.1 };
    expect(fixesOf(slow).length).toBeLessThanOrEqual(MOST);
    expect(spacing(slow)).toBeGreaterThan(0.1);
  });

  it('goes over ±180°', () => {
    const across = {
      ...NORTH,
      path: [
        { lon: 179.999, lat: 0 },
        { lon: 180.001, lat: 0 },
      ],
      accuracy_m: 0.1,
    };
    expect(apart({ lon: 179.999, lat: 0 }, { lon: -179.999, lat: 0 })).toBeCloseTo(222.6, 0);
    for (const { lon } of fixesOf(across)) expect(Math.abs(lon)).toBeLessThanOrEqual(180);
  });
});

it.each([
  [0.9569, '96 %'],
  [0.9949, 'over 99 %'],
  [0.801, '80 %'],
])('%d is %s sure', (probability, said) => {
  expect(sureness(probability)).toBe(said);
});

it('numbers what lies on one place together', () => {
  const at = (...metres: number[]) => metres.map((metre) => ({ lon: 0, lat: metre / 111_320 }));
  const labels = (...metres: number[]) => numbered(at(...metres), 20).map(({ label }) => label);
  expect(labels(0, 100, 200)).toEqual(['1', '2', '3']);
  expect(labels(0, 10, 100)).toEqual(['1, 2', '3']);
  expect(labels(0, 10, 15, 100, 5)).toEqual(['1 … 5', '4']);
  expect(labels(0, 10, 15)).toEqual(['1–3']);
});

it.each([
  [20.4, '20 s'],
  [60, '1 min'],
  [140, '2 min 20 s'],
  [3900, '1 h 5 min'],
  [7200, '2 h'],
])('%d seconds are %s', (seconds, said) => {
  expect(lasting(seconds)).toBe(said);
});
