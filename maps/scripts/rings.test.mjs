import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { feature } from 'topojson-client';
import { expect, test } from 'vitest';
import { labelPoint, polygonsOf } from './rings.mjs';

const require = createRequire(import.meta.url);
const world = JSON.parse(readFileSync(require.resolve('world-atlas/countries-50m.json'), 'utf8'));
const countries = feature(world, world.objects.countries).features;
const named = (name) => countries.find(({ properties }) => properties.name === name).geometry;

test('no edge of a country runs across the whole map, but for that along a pole', () => {
  const leaps = countries.flatMap(({ properties, geometry }) =>
    polygonsOf(geometry)
      .flat()
      .flatMap((ring) => ring.slice(1).filter(([lon, lat], i) => Math.abs(lon - ring[i][0]) > 180 && lat !== -90))
      .map((point) => [properties.name, point]),
  );
  expect(leaps).toEqual([]);
});

test('what lies on both sides of 180 degrees is one piece, and Antarctica holds the pole', () => {
  const over = (east) => [
    [178, 1],
    [east, 1],
    [east, 2],
    [178, 2],
    [178, 1],
  ];
  expect(polygonsOf({ type: 'Polygon', coordinates: [over(-179)] })).toEqual([[over(181)]]);
  const russia = polygonsOf(named('Russia'))
    .flat(2)
    .map(([lon]) => lon);
  expect(Math.max(...russia)).toBeGreaterThan(190);
  const coast = polygonsOf(named('Antarctica'))
    .flat()
    .filter((ring) => ring.some(([, lat]) => lat === -90));
  expect(coast).toHaveLength(1);
  expect(coast[0].at(-1)).toEqual(coast[0][0]);
});

test('names stand in their countries', () => {
  const [lon, lat] = labelPoint(named('Russia')).point;
  expect(lon > 60 && lon < 140 && lat > 50 && lat < 72).toBe(true);
  const [east, south] = labelPoint(named('Fiji')).point;
  expect(east > 176 && east < 180 && south > -19 && south < -15).toBe(true);
  expect(labelPoint(named('Canada')).point[0]).toBeLessThan(-60);
});
