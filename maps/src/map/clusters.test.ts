import { describe, expect, it } from 'vitest';
import { clustersOf, fromSquare, toSquare } from './clusters';

/** A small generator, so that a failing world can be made again (its seed is in the test's name). */
function* numbers(seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    yield state / 4_294_967_296;
  }
}

function world(seed: number, size: number) {
  const random = numbers(seed);
  const next = () => random.next().value as number;
  return Array.from({ length: size }, () => {
    const n = 1 + Math.floor(next() * 50);
    const active = Math.floor(next() * (n + 1));
    return {
      lon: next() * 360 - 180,
      lat: next() * 170 - 85,
      properties: { n, key: 'lead', counts: JSON.stringify({ active, lead: n - active }) },
    };
  });
}

describe.each([1, 2, 3])('clusters of world %d', (seed) => {
  const cells = world(seed, 500);

  it('lose nobody, at any zoom', () => {
    const all = cells.reduce((sum, cell) => sum + cell.properties.n, 0);
    for (const zoom of [0, 1.7, 4.2, 9, 11.99]) {
      expect(clustersOf(cells, zoom).reduce((sum, cluster) => sum + cluster.n, 0)).toBe(all);
    }
  });

  it('do not depend on the order of the cells, nor on the part of a zoom', () => {
    expect(clustersOf([...cells].reverse(), 4.9)).toEqual(clustersOf(cells, 4));
  });

  it('keep their distance, so that their circles can be told apart', () => {
    const at = clustersOf(cells, 3).map(({ lon, lat }) => toSquare(lon, lat).map((share) => share * 512 * 8));
    let nearest = Number.POSITIVE_INFINITY;
    at.forEach(([x = 0, y = 0], i) => {
      for (const [x2 = 0, y2 = 0] of at.slice(i + 1)) nearest = Math.min(nearest, Math.hypot(x2 - x, y2 - y));
    });
    expect(nearest).toBeGreaterThan(51.9);
  });
});

it('stand where the customers are, with the most frequent key', () => {
  const cell = (lon: number, counts: Record<string, number>, n: number) => ({
    lon,
    lat: 40,
    properties: { n, counts: JSON.stringify(counts) },
  });
  const [cluster, ...others] = clustersOf([cell(-105, { lead: 9 }, 9), cell(-105.01, { active: 10 }, 10)], 2);
  expect(others).toEqual([]);
  expect(cluster).toMatchObject({ n: 19, key: 'active' });
  expect(cluster?.lon).toBeCloseTo(-105.005, 2);
});

it('goes to the square of the map and back', () => {
  for (const [lon, lat] of [
    [0, 0],
    [-179.9, 84.9],
    [13.4, -52.5],
  ] as const) {
    const [x, y] = toSquare(lon, lat);
    const back = fromSquare(x, y);
    expect(back[0]).toBeCloseTo(lon, 9);
    expect(back[1]).toBeCloseTo(lat, 9);
  }
});

it('have the key of those who have one, where that is asked for', () => {
  const cell = (lon: number, counts: Record<string, number>) => ({
    lon,
    lat: 40,
    properties: { n: Object.values(counts).reduce((sum, n) => sum + n, 0), counts: JSON.stringify(counts) },
  });
  const cells = [cell(10, { '': 90, seg_1: 4, seg_2: 6 }), cell(-100, { '': 5 })];
  expect(clustersOf(cells, 3, 'most').map(({ key }) => key)).toEqual(['', '']);
  expect(clustersOf(cells, 3, 'keyed').map(({ key }) => key)).toEqual(['seg_2', '']);
});

it('have the shade in the middle, by how many customers the looked at ones stand for', () => {
  const cell = (lon: number, n: number, counts: Record<string, number>) => ({
    lon,
    lat: 40,
    properties: {
      n,
      looked_at: Object.values(counts).reduce((sum, one) => sum + one, 0),
      counts: JSON.stringify(counts),
    },
  });
  const key = (...cells: ReturnType<typeof cell>[]) => clustersOf(cells, 3, 'middle').map((cluster) => cluster.key);
  // most frequent are 0 and 4; in the middle of 11 stands 2
  expect(key(cell(10, 11, { '0': 4, '2': 3, '4': 4 }))).toEqual(['2']);
  // four of 100 were looked at: they stand for more than the ten of the other cell
  expect(key(cell(10, 100, { '4': 3, '0': 1 }), cell(10.01, 10, { '0': 10 }))).toEqual(['4']);
  expect(key(cell(10, 50, { '': 49, '3': 1 }))).toEqual(['3']);
  expect(key(cell(10, 5, { '': 5 }))).toEqual(['']);
  expect(key(cell(10, 5, {}))).toEqual(['?']);
  expect(key(cell(10, 5, {}), cell(10.01, 2, { '1': 2 }))).toEqual(['1']);
});
